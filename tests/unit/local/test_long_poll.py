"""The long polls of the emulator: the bell that wakes them, and the end of abandoned ones."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from inferline.local.emulator.long_poll import KNOWN_VERSION, Bell, EndAbandonedPolls, speed_up

HOURS = 7200.0
POLL = {"type": "http", "headers": [(b"x-amz-target", b"AmazonSQS.ReceiveMessage")]}
OTHER = {"type": "http", "headers": [(b"x-amz-target", b"AmazonSQS.SendMessage")]}


async def test_the_bell_ends_every_sleep() -> None:
    bell = Bell(threading.Event())
    sleeps = [asyncio.ensure_future(bell.sleep(HOURS)) for _ in range(3)]
    await asyncio.sleep(0)

    bell.set()

    await asyncio.wait_for(asyncio.gather(*sleeps), 60)


async def test_the_bell_is_heard_from_another_thread() -> None:
    bell = Bell(threading.Event())
    sleep = asyncio.ensure_future(bell.sleep(HOURS))
    await asyncio.sleep(0)

    await asyncio.to_thread(bell.set)

    await asyncio.wait_for(sleep, 60)


async def test_a_sleep_ends_by_itself() -> None:
    await asyncio.wait_for(Bell(threading.Event()).sleep(0.001), 60)


def test_the_event_behind_the_bell_is_still_set() -> None:
    event = threading.Event()
    bell = Bell(event)

    bell.set()

    assert event.is_set()
    assert bell.is_set()


async def test_a_receive_of_ministack_is_woken_by_a_send(monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = pytest.importorskip("ministack.services.sqs")
    for name in ("esm_wake", "asyncio"):
        monkeypatch.setattr(sqs, name, getattr(sqs, name))
    assert speed_up(sqs, KNOWN_VERSION)
    # Without a tick, nothing but the bell can wake it.
    monkeypatch.setattr(sqs.asyncio, "sleep", lambda _seconds: sqs.esm_wake.sleep(HOURS))
    url = sqs._act_create_queue({"QueueName": "woken"}, "")["QueueUrl"]

    poll = asyncio.ensure_future(
        sqs._act_receive_message({"QueueUrl": url, "WaitTimeSeconds": 20}, url)
    )
    await asyncio.sleep(0)
    sqs._act_send_message({"QueueUrl": url, "MessageBody": "x"}, url)

    assert len((await asyncio.wait_for(poll, 60))["Messages"]) == 1


def test_an_unknown_release_is_left_as_it_is() -> None:
    module = SimpleNamespace(esm_wake="its own", asyncio=asyncio)

    assert not speed_up(module, "1.5.34")
    assert module.esm_wake == "its own"
    assert module.asyncio is asyncio


class Caller:
    """A client that sends its request at once and goes when told to."""

    def __init__(self) -> None:
        self.goes = asyncio.Event()
        self._body: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.request", "body": b"}"},
        ]
        self.got: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        if self._body:
            return self._body.pop(0)
        await self.goes.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.got.append(message)


class Polling:
    """An app that reads its body, then waits for a message that never comes."""

    def __init__(self) -> None:
        self.body = b""
        self.ended = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.body += message["body"]
            more = message.get("more_body", False)
        try:
            await asyncio.sleep(HOURS)
        finally:
            self.ended = True


async def test_a_poll_ends_when_its_caller_goes() -> None:
    caller, app = Caller(), Polling()
    serving = asyncio.ensure_future(EndAbandonedPolls(app)(POLL, caller.receive, caller.send))
    await asyncio.sleep(0.01)
    assert not app.ended

    caller.goes.set()
    await asyncio.wait_for(serving, 60)

    assert app.ended
    assert app.body == b"{}"


async def test_other_calls_are_left_alone() -> None:
    caller, app = Caller(), Polling()
    serving = asyncio.ensure_future(EndAbandonedPolls(app)(OTHER, caller.receive, caller.send))
    caller.goes.set()
    await asyncio.sleep(0.01)

    assert not app.ended
    serving.cancel()


async def test_an_answer_goes_through() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send("the answer")

    caller = Caller()
    await EndAbandonedPolls(app)(POLL, caller.receive, caller.send)

    assert caller.got == ["the answer"]
