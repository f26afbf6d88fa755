"""The parts that everything in a gateway shares, made in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import inf

from inferline.clock import Clock
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.in_flight import ReaderIds, Waiting
from inferline.gateway.polling import SharedPoller
from inferline.settings import Settings
from inferline.stores import StackStores
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.ledger import Ledger, Ledgers
from inferline.usage.minutes import MinuteLedger
from inferline.validation.guard import Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts(StackStores):
    """A gateway's stores, and what one process keeps in memory beside them."""

    settings: Settings
    clock: Clock
    catalogue: Catalogue
    watch: SharedPoller
    #: Counts requests per minute; one of the ledgers of ``ledger``.
    minute_ledger: MinuteLedger
    ledger: Ledger
    tracer: Tracer
    guard: Guard
    waiting: Waiting = field(default_factory=Waiting)
    readers: ReaderIds = field(default_factory=ReaderIds)
    #: Set when this process ends and can no longer wait for requests under way.
    closing: asyncio.Event = field(default_factory=asyncio.Event)


def assemble(
    stores: StackStores,
    settings: Settings,
    clock: Clock,
    *,
    ledgers: Sequence[Ledger] = (),
    tracer: Tracer = NO_TRACER,
) -> GatewayParts:
    """Return the parts of a gateway on ``stores``; ``ledgers`` record each request as well."""
    minute_ledger = MinuteLedger(stores.minutes, lambda: stores.client.calls)
    catalogue = Catalogue(
        stores.registry,
        stores.queue,
        clock,
        settings.registry_seconds,
        model_seconds_kept=settings.model_seconds_kept or inf,
        listed=settings.listed_models,
    )
    return GatewayParts(
        **{each.name: getattr(stores, each.name) for each in fields(StackStores)},
        settings=settings,
        clock=clock,
        catalogue=catalogue,
        watch=SharedPoller(stores.store),
        minute_ledger=minute_ledger,
        ledger=Ledgers([minute_ledger, *ledgers]),
        tracer=tracer,
        guard=Guard.from_settings(settings),
    )
