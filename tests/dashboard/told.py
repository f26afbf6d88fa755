"""Made-up overviews in a gateway's place: what a test says is told, and what the page asked for."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, Route

from inferline.gateway.routes import page as files
from tests.dashboard.conftest import Seen

Json = dict[str, Any]

#: Where nobody is: the page's files come from here too.
URL = "http://gateway.localhost"
MODEL = "test-model"
#: When it is in these overviews, seconds since 1970; a full minute.
NOW = 1_800_000_000
#: What an older gateway does not tell, by part of the overview.
NEWER = {
    "providers": ("tokens_per_second", "reason", "warning"),
    "queues": ("tenants", "largest_share", "yours"),
    "hour": ("input_tokens", "output_tokens", "oldest_seconds"),
}
_SECONDS_MAX = 60.0


def figures(**fields: Any) -> Json:
    """Return the figures of some time without requests, changed as told."""
    none = {"p50": None, "p95": None, "p99": None}
    return {
        "requests": 0,
        "errors": {},
        "answer_bytes": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "first_token_ms": none,
        "total_ms": none,
        "queue_ms": none,
    } | fields


def hour(*newest: Json) -> Json:
    """
    Return an hour without requests, but for the ``newest`` minutes; its total is that of the last.
    """
    minutes = [
        {**figures(), "start": NOW - 60 * ago, "oldest_seconds": None} for ago in range(59, -1, -1)
    ]
    for ago, minute in enumerate(reversed(newest)):
        minutes[-1 - ago] |= minute
    last = {name: value for name, value in minutes[-1].items() if name in figures()}
    return {
        "total": last,
        "models": [{**last, "model": MODEL}],
        "minutes": minutes,
        "aws_calls": {},
    }


def provider(**fields: Any) -> Json:
    """Return a provider that is idle, changed as told."""
    return {
        "object": "provider",
        "id": "p1",
        "models": [MODEL],
        "slots": 4,
        "running": 0,
        "healthy": True,
        "version": "1",
        "service_seconds": 2.0,
        "seen_seconds_ago": 1.0,
        "tokens_per_second": 0.0,
        "reason": "",
        "warning": "",
        "quarantined": False,
    } | fields


def queue(tier: str = "default", **fields: Any) -> Json:
    """Return a queue in which nothing waits, changed as told."""
    return {
        "object": "queue",
        "model": MODEL,
        "tier": tier,
        "waiting": 0,
        "running": 0,
        "providers": 1,
        "slots": 4,
        "oldest_seconds": None,
        "tenants": 0,
        "largest_share": 0.0,
        "yours": 0,
    } | fields


def batch(**fields: Any) -> Json:
    """Return a batch that runs for 100 s and has done a quarter of its lines, changed as told."""
    return {
        "id": "batch_1",
        "object": "batch",
        "status": "in_progress",
        "model": MODEL,
        "request_counts": {"total": 1000, "completed": 240, "failed": 10},
        "in_progress_at": NOW - 100,
    } | fields


def overview(**fields: Any) -> Json:
    """Return one model with one provider and no work, changed as told."""
    return {
        "object": "overview",
        "at": NOW,
        "version": "0.1.0",
        "silent_seconds": 30.0,
        "queues": [queue("priority"), queue(), queue("flex")],
        "providers": [provider()],
        "hour": hour(),
    } | fields


def older(document: Json) -> Json:
    """Return the same as a gateway told it before tokens, reasons and tenants were in it."""
    return {name: _without(part, NEWER.get(name, ())) for name, part in document.items()}


def _without(part: Any, names: Iterable[str]) -> Any:
    if isinstance(part, list):
        return [_without(one, names) for one in part]
    if isinstance(part, dict):
        return {name: _without(one, names) for name, one in part.items() if name not in names}
    return part


@dataclass  # Without slots: Playwright notes something on whose method it calls.
class Told:
    """Stands in a gateway's place: ``await visit(URL, prepare=told.prepare)``."""

    overview: Json = field(default_factory=overview)
    #: The hour of a model by itself; without one there is none of this name.
    hours: dict[str, Json] = field(default_factory=dict)
    #: The batches of the key's tenant.
    batches: list[Json] = field(default_factory=list)
    #: The error's code where there is no hour.
    code: str = "model_not_found"
    #: The page's time stands still, unless a test moves it on.
    is_still: bool = False
    #: What was asked for, in this order.
    asked: list[str] = field(default_factory=list)

    async def prepare(self, page: Page) -> None:
        """Have the page ask here."""
        if self.is_still:
            await page.add_init_script("globalThis.inferlineEveryMs = undefined;")
            await page.clock.install(time=NOW)
            await page.clock.pause_at(NOW + 1)
        await page.route(f"{URL}/**", self._answer)

    async def later(self, page: Page | Seen, holds: Callable[[list[str]], bool]) -> None:
        """Move the page's time on until what was asked for is as wanted; fails after a while."""
        async with asyncio.timeout(_SECONDS_MAX):
            while not holds(self.asked):
                await page.clock.run_for(500)

    async def _answer(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        _, _, name = address.path.partition("/v1/")
        if not name:
            await _file(route, address.path.removeprefix("/dashboard/") or "index.html")
            return
        (model,) = parse_qs(address.query).get("model", [""])
        self.asked.append(f"{name} {model}".strip())
        if name == "overview":
            await route.fulfill(json=self.overview)
        elif name == "batches":
            await route.fulfill(json={"object": "list", "data": self.batches, "has_more": False})
        elif name.startswith("batches/"):
            self.batches[0]["status"] = "cancelling"
            await route.fulfill(json=self.batches[0])
        elif (hour_of_model := self.hours.get(model)) is not None:
            await route.fulfill(json=hour_of_model)
        else:
            error = {"message": "Not there.", "type": "t", "param": None, "code": self.code}
            await route.fulfill(status=404, json={"error": error})


async def _file(route: Route, name: str) -> None:
    """Give a file of the page as a gateway does."""
    kind, _ = mimetypes.guess_type(name)
    headers = {**files.HEADERS, "content-type": kind or ""}
    await route.fulfill(path=files.folder() / name, headers=headers)
