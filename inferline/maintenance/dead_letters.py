"""Dead letters: messages that were received so often that the queue gave up on them."""

from __future__ import annotations

import logging
from enum import Enum

from inferline.errors import BackendFailed
from inferline.tasks.queue import Message, UnreadableMessage
from inferline.tasks.store import TaskStore

log = logging.getLogger(__name__)


class Fate(Enum):
    """The end of a dead letter's task."""

    #: It is FAILED; its client gets the error.
    BURIED = "buried"
    #: It had ended before, or it is none of ours any more.
    GONE = "gone"
    #: A provider holds it: whoever asks has to come back when that one is done or lost.
    RUNNING = "running"
    #: The message is none that we wrote.
    UNREADABLE = "unreadable"


async def bury(store: TaskStore, text: str) -> Fate:
    """
    Fail the task of a dead letter, since no message leads to it any more. Idempotent.

    Raises Unavailable. No log or error repeats the message's content.
    """
    try:
        ref = Message.loads(text).ref
    except UnreadableMessage:
        log.warning("a dead letter of %d characters is none of ours", len(text))
        return Fate.UNREADABLE
    error = BackendFailed("The request went from provider to provider without an answer.")
    if await store.bury(ref, error.as_dict()):
        log.warning("buried a task that nobody could handle", extra={"task": ref.id})
        return Fate.BURIED
    status = (await store.statuses([ref])).get(ref)
    return Fate.GONE if status is None or status.state.terminal else Fate.RUNNING
