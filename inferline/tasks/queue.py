"""
The port to the task queue, whose messages name the tasks to run.

A message is a hint; the task's row is the authority. Delivery is at least once and unordered.
Every method raises `Unavailable` when the queue does not answer.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inferline.errors import InferLineError
from inferline.tasks.task import TaskRef

#: The schema version of a message whose body is JSON, which every release can serve.
MESSAGE_VERSION: Final = 1
#: That of other messages: forms, in base64, and requests without a body. Older releases skip them.
BYTES_VERSION: Final = 2
#: The most messages that one receive returns.
RECEIVE_MAX: Final = 10


class UnreadableMessage(InferLineError):
    """A message that InferLine did not write."""

    code = "unreadable_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A task's reference and the client's body: inline, or its key on S3 when it is large."""

    ref: TaskRef
    body: bytes | None = None
    body_key: str | None = None
    #: The body is JSON; else it is a form, or empty.
    is_json: bool = True

    def dumps(self) -> str:
        """Write the message as ASCII JSON: SQS refuses some characters unless they are escaped."""
        if self.body is None:
            content = {"key": self.body_key}
        elif self.is_json:
            content = {"body": self.body.decode()}
        else:
            content = {"base64": b64encode(self.body).decode()}
        version = MESSAGE_VERSION if self.is_json else BYTES_VERSION
        return json.dumps({"v": version, "task": self.ref.pk, **content})

    def fits(self, bytes_max: int) -> bool:
        """Return whether ``dumps`` is at most ``bytes_max`` long. Measure only a close case."""
        # A byte of UTF-8 becomes at most three characters when escaped, and less than two in
        # base64; 256 is more than the rest of the message.
        if self.body is None or 3 * len(self.body) + 256 <= bytes_max:
            return True
        return len(self.body) <= bytes_max and len(self.dumps()) <= bytes_max

    @classmethod
    def loads(cls, text: str) -> Message:
        """Read a message. Raises UnreadableMessage."""
        try:
            message = json.loads(text)
            if message["v"] not in (MESSAGE_VERSION, BYTES_VERSION):
                raise UnreadableMessage(
                    f"A message of schema version {message['v']!r} can't be read."
                )
            ref, is_json = TaskRef.from_pk(message["task"]), message["v"] == MESSAGE_VERSION
            if "key" in message:
                return cls(ref=ref, body_key=str(message["key"]), is_json=is_json)
            if is_json:
                return cls(ref=ref, body=message["body"].encode())
            return cls(ref=ref, body=b64decode(message["base64"], validate=True), is_json=False)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnreadableMessage from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A received message. Its ``text`` is not read yet: it may be anything."""

    queue: str
    receipt: str
    text: str
    #: How often SQS has delivered it, this time included.
    receives: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Depth:
    """The approximate number of visible messages, and of those that providers have received."""

    waiting: int
    running: int


class TaskQueue(Protocol):
    """Queues, each named by its URL."""

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        """Put a message on the queue, in the tenant's group."""

    async def send_all(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        """Put messages on the queue, as `send` does. After `Unavailable` some may be on it."""

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        """
        Take up to ``limit`` (1 to 10) messages, waiting up to ``wait_seconds`` (0 to 20) for the
        first.

        They are hidden from other receivers for ``visibility_timeout_seconds``. The call is never
        repeated once it was sent: a lost response hides its messages for one visibility timeout.
        """

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """
        Hide the messages for ``seconds`` from now; 0 makes them visible at once.

        A message whose receipt has lapsed is ignored: the task's row says who owns the task.
        """

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Delete the messages. One whose receipt has lapsed is ignored."""

    async def depth(self, queue: str) -> Depth:
        """Return the queue's approximate depth."""
