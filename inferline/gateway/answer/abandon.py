"""Cancels the task of a client that has left."""

from __future__ import annotations

import logging

from inferline.errors import ProviderFault, Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.tasks.task import Task

log = logging.getLogger(__name__)


async def abandon(parts: GatewayParts, task: Task) -> None:
    """
    Cancel a task whose client is gone; its slot becomes free within a second.

    Does nothing if another gateway has become its reader.
    """
    try:
        await parts.store.cancel(task.ref, task.reader)
    except (ProviderFault, Unavailable):
        log.warning("could not cancel a task; its deadline will", extra={"task": task.ref.id})
