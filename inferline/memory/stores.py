"""All stores of a stack, in memory."""

from __future__ import annotations

from collections import Counter

from inferline.clock import Clock, SystemClock
from inferline.memory.batches import MemoryBatches
from inferline.memory.dates import Dates
from inferline.memory.files import MemoryFiles
from inferline.memory.keys import MemoryKeys
from inferline.memory.minutes import MemoryMinutes
from inferline.memory.objects import MemoryObjects
from inferline.memory.queue import MemoryQueue
from inferline.memory.rate_counters import MemoryRateCounters
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.uploads import MemoryUploads
from inferline.memory.usage import MemoryUsage
from inferline.stores import StackStores


class _NoClient:
    """A `StoreClient` that never calls anything."""

    def __init__(self, clock: Clock) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._dates = Dates(clock)

    def now_ms(self) -> int:
        return self._dates.now_ms()


def memory_stores(clock: Clock | None = None) -> StackStores:
    """Make the stores of a new stack, empty, on one clock."""
    clock = clock or SystemClock()
    store, queue = MemoryStore(clock), MemoryQueue(clock)
    return StackStores(
        client=_NoClient(clock),
        store=store,
        queue=queue,
        bodies=MemoryObjects(),
        objects=MemoryObjects(),
        files=MemoryFiles(clock),
        uploads=MemoryUploads(),
        batches=MemoryBatches(clock),
        registry=MemoryRegistry(clock),
        queue_maker=queue,
        minutes=MemoryMinutes(),
        keys=MemoryKeys(),
        usage=MemoryUsage(store),
        tenants=MemoryTenants(),
        rate_counters=MemoryRateCounters(clock),
    )
