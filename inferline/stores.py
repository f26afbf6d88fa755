"""The stores of one process: the core's ports, on AWS or in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from inferline.accounts.keys import KeyStore
    from inferline.accounts.rate_counters import CounterStore
    from inferline.accounts.tenants import TenantStore
    from inferline.batches.batch import BatchStore
    from inferline.files.file import FileStore
    from inferline.files.objects import ObjectStore
    from inferline.files.upload import UploadStore
    from inferline.fleet.enrolment import Lender
    from inferline.fleet.registry import QueueMaker, Registry
    from inferline.tasks.bodies import BodyStore
    from inferline.tasks.queue import TaskQueue
    from inferline.tasks.store import TaskStore
    from inferline.usage.minutes import MinuteStore
    from inferline.usage.usage import UsageStore


class StoreClient(Protocol):
    """The connection behind the stores."""

    @property
    def calls(self) -> Counter[tuple[str, str]]:
        """Count the calls made so far, by service and operation."""

    def now_ms(self) -> int:
        """Return the stores' time, milliseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStores:
    """Everything that is kept for one stack: a gateway and the operator's commands work on it."""

    client: StoreClient
    store: TaskStore
    queue: TaskQueue
    bodies: BodyStore
    #: The bytes of files and of batches' shards.
    objects: ObjectStore
    files: FileStore
    uploads: UploadStore
    batches: BatchStore
    registry: Registry
    queue_maker: QueueMaker
    minutes: MinuteStore
    keys: KeyStore
    usage: UsageStore
    tenants: TenantStore
    rate_counters: CounterStore
    #: The tables are the gateway's own, on an emulator: no function of a stack works on them.
    emulated: bool = False
    #: Lends credentials to providers that enrol; None: they use their host's own.
    lender: Lender | None = None
