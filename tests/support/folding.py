"""A line asked of a backend as a provider asks it: its answer is a stream that is folded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from inferline.fleet.enrolment import Terms
from inferline.settings import Settings
from inferline_provider.backend.client import BackendClient
from inferline_provider.batch.fold import Folding
from inferline_provider.faults import BackendAnswer
from inferline_provider.relay.continuation import Continuation
from inferline_provider.relay.relay import Relay

#: Fields of one call only, and what it measured.
_DRAWN = frozenset({"id", "created", "timings", "metrics", "cached_tokens", "missed_tokens"})
TERMS = Terms.model_validate(Settings())


async def folded(url: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Return the status of the folded answer, and its document."""
    asked = json.dumps(body).encode()
    folding = Folding(path, asked)
    async with BackendClient(url) as backend:
        answer = await relayed(folding, path, backend, folding.request)
    return answer.status, json.loads(answer.body)


async def relayed(
    folding: Folding,
    path: str,
    backend: BackendClient,
    body: bytes,
    rest: Continuation | None = None,
) -> BackendAnswer:
    """Send a request for an answer, or for its rest, and return it folded."""
    splice = None if rest is None else rest.splice
    relay = Relay(TERMS, path, body, folding, splice=splice)
    async with backend.post(path, body, TERMS.first_byte_seconds_max) as response:
        return folding.answer(await relay.run(response))


async def given_up(
    url: str, path: str, body: dict[str, Any], after: Sequence[int]
) -> tuple[Folding, dict[str, Any]]:
    """
    Return the answer to a line whose request is closed, and asked anew, after each of some numbers
    of tokens.
    """
    folding = Folding(path, json.dumps(body).encode())
    async with BackendClient(url) as backend:
        for tokens in after:
            asking = asyncio.create_task(_ask(folding, path, backend, body["model"]))
            while folding.tokens < tokens and not asking.done():  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        answer = await _ask(folding, path, backend, body["model"])
    return folding, json.loads(answer.body)


async def _ask(folding: Folding, path: str, backend: BackendClient, model: str) -> BackendAnswer:
    if not folding.tokens:
        return await relayed(folding, path, backend, folding.request)
    rest = await folding.resume(model, backend)
    assert rest.body is not None, "the answer was given up too late"
    return await relayed(folding, path, backend, rest.body, rest)


def differences(plain: Any, fold: Any, place: str = "") -> Iterator[tuple[str, bool]]:
    """
    Yield the places where two answers differ, and whether only a field without a value is missing.
    """
    if isinstance(plain, dict) and isinstance(fold, dict):
        for name in sorted(plain.keys() | fold.keys()):
            at = f"{place}.{name}".lstrip(".")
            if (name in plain) != (name in fold):
                yield at, plain.get(name, fold.get(name)) in (None, "")
            elif name not in _DRAWN:
                yield from differences(plain[name], fold[name], at)
    elif isinstance(plain, list) and isinstance(fold, list) and len(plain) == len(fold):
        for one, other in zip(plain, fold, strict=True):
            yield from differences(one, other, place)
    elif plain != fold:
        yield place, False
