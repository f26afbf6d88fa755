"""A user of batches who comes back when a gateway is gone, as an SDK does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from tests.chaos.batches.oracle import PATH, Line, Verdict, judge_batch

Json = dict[str, Any]

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
#: Between two tries, and between two looks at a batch, seconds.
AGAIN_SECONDS, LOOK_SECONDS = 0.2, 0.5
#: A gateway that stands still keeps nobody waiting for longer, seconds.
REQUEST_SECONDS_MAX = 10.0


class Refused(Exception):
    """A gateway said that the user is wrong."""


class User:
    """A user who asks one of the gateways that ``pick`` gives."""

    def __init__(self, session: aiohttp.ClientSession, pick: Callable[[], str]) -> None:
        self._session = session
        self._pick = pick

    async def run(self, lines: Sequence[Line], seconds: float) -> Verdict:
        """Have a batch of these lines run, and judge what came of it. Raises TimeoutError."""
        content = "".join(line.text() for line in lines).encode()
        batch: Json = {}
        async with asyncio.timeout(seconds):
            file = await self._ask("POST", "/v1/files", form=content)
            asked = {"input_file_id": file["id"], "endpoint": PATH, "completion_window": "24h"}
            # A batch whose creation is repeated runs twice; only the second is looked at.
            batch = await self._ask("POST", "/v1/batches", document=asked)
            while batch["status"] not in TERMINAL:
                await asyncio.sleep(LOOK_SECONDS)
                batch = await self._ask("GET", f"/v1/batches/{batch['id']}")
            output, error = [
                await self._content(batch[name]) for name in ("output_file_id", "error_file_id")
            ]
        return judge_batch(lines, batch, output, error)

    async def _content(self, file_id: str | None) -> bytes:
        return await self._bytes("GET", f"/v1/files/{file_id}/content") if file_id else b""

    async def _ask(self, method: str, path: str, **sent: Any) -> Json:
        document: Json = json.loads(await self._bytes(method, path, **sent))
        return document

    async def _bytes(self, method: str, path: str, **sent: Any) -> bytes:
        """Return the answer of a gateway that has one; others are asked again. Raises Refused."""
        while True:
            try:
                return await self._once(method, path, **sent)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _once(
        self, method: str, path: str, document: Json | None = None, form: bytes | None = None
    ) -> bytes:
        data = None
        if form is not None:
            data = aiohttp.FormData({"purpose": "batch"})
            data.add_field("file", form, filename="lines.jsonl")
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        url = self._pick() + path
        async with self._session.request(
            method, url, json=document, data=data, timeout=timeout
        ) as response:
            body = await response.read()
            if response.status >= 500 or response.status == 429:
                raise aiohttp.ClientError(f"{response.status} {body!r}")
            if response.status >= 400:
                raise Refused(f"{method} {path}: {response.status} {body!r}")
            return body
