"""A line asked of a backend as a provider asks it: its answer is a stream that is folded."""

from __future__ import annotations

import json
from typing import Any

from inferline.fleet.enrolment import Terms
from inferline.settings import Settings
from inferline_provider.backend.client import BackendClient
from inferline_provider.batch.fold import Folding
from inferline_provider.faults import BackendAnswer
from inferline_provider.relay.continuation import Continuation
from inferline_provider.relay.relay import Relay

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
