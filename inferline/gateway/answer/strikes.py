"""Strikes: counts the invalid answers of each provider."""

from __future__ import annotations

import logging

from inferline.errors import Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.tasks.task import Task

log = logging.getLogger(__name__)


async def strike(parts: GatewayParts, task: Task, provider: str, breach: str) -> None:
    """Count a breach against the provider of a task. Never raises: no answer depends on it."""
    limit = parts.settings.strikes_max
    record = {"task": task.ref.id, "provider": provider, "breach": breach}
    if not provider or not limit:
        log.warning("a provider wrote an invalid answer", extra=record)
        return
    try:
        strikes = await parts.registry.strike(provider, task.model, breach, limit)
    except Unavailable:
        log.warning("could not count a strike", extra=record)
    else:
        log.warning("a provider wrote an invalid answer", extra={**record, "strikes": strikes})
