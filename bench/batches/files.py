"""A batch as its user has it: the file of its lines, its life, and what came out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.harness.backend import MODEL
from bench.harness.processes import BenchError

ENDPOINT = "/v1/chat/completions"
POLL_SECONDS = 0.25
TERMINAL = ("completed", "failed", "expired", "cancelled")
#: No request of a client takes longer.
REQUEST_SECONDS_MAX = 300.0
BATCH_SECONDS_MAX = 1800.0


def write(path: Path, lines: int, line_bytes: int = 0) -> Path:
    """Write a batch's input of so many lines, each of about so many bytes."""
    with path.open("w") as file:
        for number in range(lines):
            content = f"Line {number}: how long is a conveyor belt?"
            messages = [{"role": "user", "content": content.ljust(line_bytes - 130, ".")}]
            body = {"model": MODEL, "messages": messages}
            line = {"custom_id": f"line-{number}", "method": "POST", "url": ENDPOINT, "body": body}
            file.write(json.dumps(line) + "\n")
    return path


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds of a batch, from the first byte of its upload."""

    uploaded: float
    created: float
    #: From when on it was no longer validating.
    validated: float
    ended: float
    #: Lines of its output file that have an answer of status 200, each with its own `custom_id`.
    answered: int
    batch: dict[str, Any]


class User:
    """A user of the gateway."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS_MAX)

    async def __aenter__(self) -> User:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def upload(self, path: Path) -> str:
        """Return the id of a file that was uploaded."""
        with path.open("rb") as file:
            response = await self._http.post(
                "/v1/files",
                data={"purpose": "batch"},
                files={"file": (path.name, file, "application/jsonl")},
            )
        return str(_read(response)["id"])

    async def create(self, file_id: str) -> str:
        """Return the id of a new batch."""
        fields = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
        return str(_read(await self._http.post("/v1/batches", json=fields))["id"])

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch as it is now."""
        return _read(await self._http.get(f"/v1/batches/{batch_id}"))

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch."""
        _read(await self._http.post(f"/v1/batches/{batch_id}/cancel"))

    async def until(self, batch_id: str, *statuses: str) -> dict[str, Any]:
        """Return a batch once it has one of the statuses. Raises BenchError after long."""
        until = time.monotonic() + BATCH_SECONDS_MAX
        while (batch := await self.batch(batch_id))["status"] not in statuses:
            if time.monotonic() > until:
                raise BenchError(f"a batch stays {batch['status']}: {batch['request_counts']}")
            await asyncio.sleep(POLL_SECONDS)
        return batch

    async def answered(self, file_id: str | None) -> int:
        """Return how many different lines of an output file have an answer."""
        if file_id is None:
            return 0
        content = await self._http.get(f"/v1/files/{file_id}/content", follow_redirects=True)
        rows = map(json.loads, content.text.split("\n")[:-1])
        return len({row["custom_id"] for row in rows if row["response"]["status_code"] == 200})

    async def run(self, path: Path, answered: Awaitable[object] | None = None) -> Life:
        """
        Run a batch from its upload to its end.

        With ``answered``, the end of its last line, it is not looked at before: each look is a call
        to AWS.
        """
        begun, moments = time.monotonic(), list[float]()

        def moment() -> None:
            moments.append(time.monotonic() - begun)

        file_id = await self.upload(path)
        moment()
        batch_id = await self.create(file_id)
        moment()
        await self.until(batch_id, "in_progress", "finalizing", *TERMINAL)
        moment()
        if answered is not None:
            await answered
        batch = await self.until(batch_id, *TERMINAL)
        moment()
        return Life(*moments, await self.answered(batch["output_file_id"]), batch)


def _read(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise BenchError(f"{response.request.url.path}: {response.status_code} {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


async def direct(url: str, path: Path, at_once: int) -> float:
    """Send the lines of a batch to a backend itself, so many at a time; return the seconds."""
    lines = iter([json.loads(text)["body"] for text in path.read_text().split("\n")[:-1]])
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(timeout=REQUEST_SECONDS_MAX, limits=limits) as http:

        async def work() -> None:
            for body in lines:
                response = await http.post(f"{url}{ENDPOINT}", json=body)
                response.raise_for_status()

        begun = time.monotonic()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return time.monotonic() - begun
