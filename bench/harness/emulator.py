"""
The emulator of AWS as the measurements need it: it counts its calls, and can be as late as AWS.

    python -m bench.harness.emulator --port P [--far] [--seed N]

It is the emulator of the one-machine mode with a layer around its app, in the same process: a proxy
would take the CPU that is under measurement. With ``--far`` a call takes effect in the middle of
the time that is drawn for it and is answered at its end. What the emulator itself takes is part of
that time, not added to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from bench.harness.distance import DYNAMODB, SEND_TO_RECEIVE, SQS, Distance
from inferline.local.emulator import __main__ as emulator
from inferline.local.emulator.long_poll import (
    AsgiApp,
    AsgiMessage,
    AsgiReceive,
    AsgiSend,
    EndAbandonedPolls,
)

#: What an item of a batch has once in its request.
ITEM_MARKS: Final = {"BatchWriteItem": b'"PutRequest"', "BatchGetItem": b'"sk"'}
#: A message can be seen so much sooner than its waiting poll is woken, or that would see nothing.
SURE_SECONDS: Final = 0.002
#: What a caller on this machine sees of a call and the emulator does not: the way there and back.
OUTSIDE_SECONDS: Final = 0.001

#: When the call that is being handled came, by the loop's clock.
_came: ContextVar[float] = ContextVar("came")


class Counted:
    """Counts calls by operation, and the items of batches; `GET /_bench/calls` tells."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.calls: Counter[str] = Counter()
        self.items: Counter[str] = Counter()

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve one ASGI scope."""
        operation = operation_of(scope)[1]
        if not operation:
            if scope["type"] == "http" and scope["path"] == "/_bench/calls":
                await _tell({"calls": self.calls, "items": self.items}, send)
            else:
                await self._app(scope, receive, send)
            return
        self.calls[operation] += 1
        if mark := ITEM_MARKS.get(operation):
            receive = self._counting(operation, mark, receive)
        await self._app(scope, receive, send)

    def _counting(self, operation: str, mark: bytes, receive: AsgiReceive) -> AsgiReceive:
        async def seen() -> AsgiMessage:
            message = await receive()
            self.items[operation] += message.get("body", b"").count(mark)
            return message

        return seen


def operation_of(scope: AsgiMessage) -> tuple[str, str]:
    """
    Return the service and the operation that a call is for, empty for what is no call to AWS's
    JSON.
    """
    if scope["type"] == "http":
        for name, value in scope["headers"]:
            if name == b"x-amz-target":
                service, _, operation = value.decode("latin-1").partition(".")
                return service, operation
    return "", ""


async def _tell(document: Mapping[str, Any], send: AsgiSend) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


class Far:
    """Answers each call as late as AWS would; a poll that waits is answered with its message."""

    def __init__(self, app: AsgiApp, seed: int) -> None:
        self._app = app
        chance = random.Random(seed)
        self._distances = {
            "AmazonSQS": Distance(SQS, chance),
            "DynamoDB_20120810": Distance(DYNAMODB, chance),
        }

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve one ASGI scope."""
        distance = self._distances.get(operation_of(scope)[0])
        if distance is None:
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        came, seconds = loop.time(), distance.draw() - OUTSIDE_SECONDS
        _came.set(came)
        await asyncio.sleep(seconds / 2)

        async def late(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                # A poll that has waited for longer is answered at once.
                await asyncio.sleep(max(0.0, came + seconds - loop.time()))
            await send(message)

        await self._app(scope, receive, late)


def delay_messages(sqs: Any, seed: int) -> None:
    """
    Have `sqs`, MiniStack's queue module, show a message only as late after the call as AWS does.

    A poll that waits then has it at that moment; what is drawn for the poll itself has passed.
    """
    send_message: Callable[[dict[str, Any], str], dict[str, Any]] = sqs._HANDLERS["SendMessage"]
    distance = Distance(SEND_TO_RECEIVE, random.Random(seed))

    def send_late(data: dict[str, Any], queue_url: str) -> dict[str, Any]:
        answer = send_message(data, queue_url)
        loop = asyncio.get_running_loop()
        due = _came.get() + distance.draw() - OUTSIDE_SECONDS
        rest = max(SURE_SECONDS, due - loop.time())
        message = sqs._get_q(data.get("QueueUrl", queue_url))["messages"][-1]
        message["visible_at"] = time.time() + rest - SURE_SECONDS
        loop.call_later(rest, sqs.esm_wake.set)
        return answer

    sqs._HANDLERS["SendMessage"] = send_late


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; further options are those of `inferline.local.emulator`."""
    parser = argparse.ArgumentParser(prog="python -m bench.harness.emulator", description=__doc__)
    parser.add_argument("--far", action="store_true", help="answer as late as AWS")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (%(default)s)")
    options, rest = parser.parse_known_args(arguments)

    def layered(app: AsgiApp) -> AsgiApp:
        counted = Counted(EndAbandonedPolls(app))
        if not options.far:
            return counted
        from ministack.services import sqs

        delay_messages(sqs, options.seed)
        return Far(counted, options.seed)

    # The outermost layer of the app that it serves; everything else stays as users have it.
    emulator.EndAbandonedPolls = layered  # type: ignore[misc, assignment]
    emulator.main(rest)


if __name__ == "__main__":
    main()
