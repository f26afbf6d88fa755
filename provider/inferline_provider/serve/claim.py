"""Claiming a task: its message is only a hint, its row decides."""

from __future__ import annotations

import hashlib
import logging
import math
import random
from typing import Final

from inferline.errors import Unavailable
from inferline.tasks.queue import Delivery, Message, TaskQueue, UnreadableMessage
from inferline.tasks.store import Refused, TaskStore
from inferline.tasks.task import Task, TaskRef

log = logging.getLogger(__name__)

#: Added to the rest of another's lease, so that waiting providers do not come all at once.
JITTER_SECONDS: Final = 2
#: SQS's longest visibility timeout.
_VISIBILITY_SECONDS_MAX: Final = 12 * 3600


async def claim(
    store: TaskStore,
    queue: TaskQueue,
    delivery: Delivery,
    owner: str,
    lease_seconds: float,
) -> tuple[Task, Message] | None:
    """
    Begin an attempt at the task that a message names; return None when there is nothing to do.

    Then the message is deleted if its task has ended, and left alone if another attempt runs or if
    it can't be read: it may be of a later release, and the queue's receive limit bounds it.
    """
    try:
        message = Message.loads(delivery.text)
    except UnreadableMessage:
        log.warning("A message can't be read and is left alone. queue=%s", delivery.queue)
        return None
    try:
        claimed = await store.claim(message.ref, owner, lease_seconds)
        if not isinstance(claimed, Refused):
            return claimed.task, message
        if claimed.task is None or claimed.task.state.terminal:
            await queue.delete([delivery])
        else:
            rest_ms = max(0, claimed.task.lease_ms - store.now_ms())
            rest = math.ceil(rest_ms / 1000) + random.randint(0, JITTER_SECONDS)
            await queue.change_visibility([delivery], min(rest, _VISIBILITY_SECONDS_MAX))
    except Unavailable:
        log.warning("A task can't be claimed: the store does not answer. task=%s", message.ref.id)
    return None


async def let_go(store: TaskStore, queue: TaskQueue, ref: TaskRef, delivery: Delivery) -> None:
    """Leave a task alone that is not ours any more; delete only the message of an ended one."""
    try:
        status = (await store.statuses([ref])).get(ref)
        if status is not None and status.state.terminal:
            await queue.delete([delivery])
    except Unavailable:
        pass  # The provider that receives the message next does it.


def is_intact(task: Task, body: bytes) -> bool:
    """Say whether `body` is the one that was submitted."""
    return hashlib.sha256(body).hexdigest() == task.body_sha256
