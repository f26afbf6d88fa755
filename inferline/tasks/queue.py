"""
The task queue: where a task waits, as a message that says "look at this task".

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

#: The schema of a message whose body is JSON, which every release can serve.
MESSAGE_VERSION: Final = 1
#: That of others: forms, in base64, and requests without a body. Earlier releases leave them alone.
BYTES_VERSION: Final = 2
#: The most a single receive brings.
RECEIVE_MAX: Final = 10


class UnreadableMessage(InferLineError):
    """A message on a queue is not one of ours."""

    code = "unreadable_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Where to look, and the client's own body: inline, or its S3 key when it is large."""

    ref: TaskRef
    body: bytes | None = None
    body_key: str | None = None
    #: Whether the body is JSON; else it is a form, or empty.
    is_json: bool = True

    def dumps(self) -> str:
        """The message as ASCII JSON: SQS refuses some characters, and escaped there are none."""
        if self.body is None:
            where = {"key": self.body_key}
        elif self.is_json:
            where = {"body": self.body.decode()}
        else:
            where = {"base64": b64encode(self.body).decode()}
        version = MESSAGE_VERSION if self.is_json else BYTES_VERSION
        return json.dumps({"v": version, "task": self.ref.pk, **where})

    def fits(self, bytes_max: int) -> bool:
        """Whether ``dumps`` is at most ``bytes_max`` long; measured only when it is near."""
        # Escaped, a byte of UTF-8 becomes three characters at most, in base64 less than two; the
        # rest is the envelope.
        if self.body is None or 3 * len(self.body) + 256 <= bytes_max:
            return True
        return len(self.body) <= bytes_max and len(self.dumps()) <= bytes_max

    @classmethod
    def loads(cls, text: str) -> Message:
        """The message that ``text`` is. Raises UnreadableMessage."""
        try:
            found = json.loads(text)
            if found["v"] not in (MESSAGE_VERSION, BYTES_VERSION):
                raise UnreadableMessage(
                    f"A message of schema version {found['v']!r} can't be read."
                )
            ref, is_json = TaskRef.from_pk(found["task"]), found["v"] == MESSAGE_VERSION
            if "key" in found:
                return cls(ref=ref, body_key=str(found["key"]), is_json=is_json)
            if is_json:
                return cls(ref=ref, body=found["body"].encode())
            return cls(ref=ref, body=b64decode(found["base64"], validate=True), is_json=False)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnreadableMessage from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One receipt of a message. ``text`` is still unread: it may be anything."""

    queue: str
    receipt: str
    text: str
    #: How often SQS has delivered it, this time included.
    receives: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages wait and how many are out with providers; approximate."""

    waiting: int
    running: int


class TaskQueue(Protocol):
    """Queues, each named by its URL."""

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        """Put a message on the queue, in the tenant's group."""

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        """
        Take up to ``limit`` (1 to 10) messages, waiting up to ``wait_seconds`` (0 to 20) for the
        first.

        They stay hidden from others for ``visibility_timeout_seconds``. The call is never repeated
        once it was sent: a lost response costs those messages one visibility timeout.
        """

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """
        Keep the messages hidden for ``seconds`` from now; 0 gives them back at once.

        A message that is no longer ours is passed over: the row tells who holds the task.
        """

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Remove the messages. One that is no longer ours is passed over."""

    async def depth(self, queue: str) -> Depth:
        """How much the queue holds."""
