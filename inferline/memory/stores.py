"""Makes a gateway's stores in memory, for tests and simulations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferline.clock import Clock
from inferline.memory.keys import MemoryKeys
from inferline.memory.rate_counters import MemoryMeters
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryBodies, MemoryMinutes, MemoryQueue, MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.usage import MemoryUsage
from inferline.stores import GatewayStores


def memory_stores(clock: Clock | None = None, **stores: Any) -> GatewayStores:
    """Return empty stores, with ``stores`` in place of those of the same name."""
    store, queue = MemoryStore(clock), MemoryQueue(clock)
    made = GatewayStores(
        store=store,
        queue=queue,
        bodies=MemoryBodies(),
        registry=MemoryRegistry(clock),
        queue_maker=queue,
        minute_store=MemoryMinutes(),
        keys=MemoryKeys(),
        tenants=MemoryTenants(),
        usage=MemoryUsage(store),
        counters=MemoryMeters(clock),
    )
    return replace(made, **stores)
