"""The parts that work on batches needs, in a gateway as in the sweep."""

from __future__ import annotations

from dataclasses import dataclass

from inferline.accounts.keys import KeyStore
from inferline.accounts.rate_counters import CounterStore
from inferline.accounts.tenants import TenantStore
from inferline.batches.batch import BatchStore
from inferline.clock import Clock
from inferline.files.file import FileStore
from inferline.files.objects import ObjectStore
from inferline.fleet.registry import Registry
from inferline.settings import Settings
from inferline.tasks.queue import TaskQueue
from inferline.tasks.store import TaskStore
from inferline.validation.guard import Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchParts:
    """The stores, settings and rules that work on batches needs."""

    batches: BatchStore
    files: FileStore
    objects: ObjectStore
    store: TaskStore
    queue: TaskQueue
    registry: Registry
    keys: KeyStore
    tenants: TenantStore
    rate_counters: CounterStore
    settings: Settings
    guard: Guard
    clock: Clock
