"""The measurements' emulator is as late as it is told to be, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
import random
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bench.harness import emulator
from bench.harness.distance import DYNAMODB, SEND_TO_RECEIVE, SQS, Distance
from bench.harness.emulator import OUTSIDE_SECONDS, SURE_SECONDS, Counted, Far, delay_messages
from bench.harness.stats import percentile
from bench.sim import virtual_time
from inferline.local.emulator.long_poll import AsgiMessage, AsgiReceive, AsgiSend

PUT = {"type": "http", "path": "/", "headers": [(b"x-amz-target", b"DynamoDB_20120810.PutItem")]}
POLL = {"type": "http", "path": "/", "headers": [(b"x-amz-target", b"AmazonSQS.ReceiveMessage")]}


@pytest.mark.parametrize("wanted", [SEND_TO_RECEIVE, DYNAMODB, SQS])
def test_drawn_times_have_the_percentiles(wanted: dict[float, float]) -> None:
    distance = Distance(wanted, random.Random(3))

    drawn = [distance.draw() for _ in range(20_000)]

    percentiles = {share: percentile(drawn, share) for share in wanted}
    assert wanted == pytest.approx(percentiles, rel=0.06)


def test_the_same_seed_draws_the_same_times() -> None:
    one, same, other = (Distance(SQS, random.Random(seed)) for seed in (1, 1, 2))

    assert one.draw() == same.draw() != other.draw()


class App:
    """Answers after some seconds, and notes when it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked_at = 0.0

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        self.asked_at = asyncio.get_running_loop().time()
        await receive()
        await asyncio.sleep(self.seconds)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def answered_at(app: Any, scope: AsgiMessage, body: bytes = b"") -> float:
    """Return when a call is answered, by the loop's clock."""
    moments = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": body}

    async def send(message: AsgiMessage) -> None:
        moments.append(asyncio.get_running_loop().time())

    await app(scope, receive, send)
    return moments[0]


def drawn(wanted: dict[float, float], seed: int) -> float:
    """Return the first time that is drawn, less what is not the emulator's."""
    return Distance(wanted, random.Random(seed)).draw() - OUTSIDE_SECONDS


def test_a_call_takes_the_drawn_time_and_has_its_effect_in_the_middle() -> None:
    app = App()

    moment = virtual_time.run(answered_at(Far(app, seed=5), PUT))

    assert drawn(DYNAMODB, 5) == pytest.approx(moment)
    assert drawn(DYNAMODB, 5) / 2 == pytest.approx(app.asked_at)


def test_what_the_emulator_itself_takes_is_part_of_the_time() -> None:
    app = App(seconds=drawn(DYNAMODB, 5) / 4)

    moment = virtual_time.run(answered_at(Far(app, seed=5), PUT))

    assert drawn(DYNAMODB, 5) == pytest.approx(moment)


def test_a_poll_that_has_waited_is_answered_at_once() -> None:
    app = App(seconds=9.0)

    moment = virtual_time.run(answered_at(Far(app, seed=5), POLL))

    assert drawn(SQS, 5) / 2 + 9.0 == pytest.approx(moment)


def test_a_message_can_be_seen_as_late_as_it_is_drawn_and_polls_are_woken_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue: dict[str, Any] = {"messages": []}
    woken: list[float] = []

    def send_message(data: dict[str, Any], url: str) -> dict[str, Any]:
        queue["messages"].append({"visible_at": 0.0})
        return {"MessageId": "1"}

    async def send() -> float:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(time, "time", loop.time)
        wake = SimpleNamespace(set=lambda: woken.append(loop.time()))
        sqs = SimpleNamespace(
            _HANDLERS={"SendMessage": send_message}, _get_q=lambda url: queue, esm_wake=wake
        )
        delay_messages(sqs, seed=5)
        emulator._came.set(loop.time())
        # The call takes effect in the middle of its own time.
        await asyncio.sleep(0.005)
        assert {"MessageId": "1"} == sqs._HANDLERS["SendMessage"]({}, "queue")
        await asyncio.sleep(1)
        return float(queue["messages"][0]["visible_at"])

    visible_at = virtual_time.run(send())

    due = drawn(SEND_TO_RECEIVE, 5)
    assert [pytest.approx(due)] == woken
    assert due - SURE_SECONDS == pytest.approx(visible_at)


async def test_calls_and_the_items_of_batches_are_counted() -> None:
    counted = Counted(App())
    target = b"DynamoDB_20120810.BatchWriteItem"
    write = {**PUT, "headers": [(b"x-amz-target", target)]}
    body = json.dumps({"RequestItems": {"t": [{"PutRequest": {}}, {"PutRequest": {}}]}}).encode()

    await answered_at(counted, PUT)
    await answered_at(counted, write, body)

    assert {"PutItem": 1, "BatchWriteItem": 1} == counted.calls
    assert {"BatchWriteItem": 2} == counted.items
