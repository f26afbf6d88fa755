"""An answer's way from the store to its client."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from inferline.gateway.answer import transfer, wait_limits
from inferline.tasks.store import TaskRead
from tests.support.gateway import MODEL, Gateway

CHAT = "/v1/chat/completions"


async def test_an_answer_that_is_complete_when_its_deadline_is_checked_arrives(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_change = gateway.parts.watch.next_change

    async def pass_deadline_at_end(*args: Any, **options: Any) -> TaskRead:
        read = await next_change(*args, **options)
        if read.task is not None and read.task.state.terminal:
            monkeypatch.setattr(wait_limits, "DEADLINE_GRACE_SECONDS", -1e9)
        return read

    monkeypatch.setattr(transfer, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(gateway.parts.watch, "next_change", pass_deadline_at_end)
    asked = asyncio.create_task(client.post(CHAT, json={"model": MODEL, "messages": []}))
    await (await gateway.take()).finish(tail=b'{"n": 1}')
    response = await asked

    assert (200, {"n": 1}) == (response.status_code, response.json())
