"""Everything that a gateway stores, behind the ports: AWS and memory each make one of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inferline.accounts.keys import KeyStore
from inferline.accounts.rate_counters import CounterStore
from inferline.accounts.tenants import TenantStore
from inferline.fleet.enrolment import Lender
from inferline.fleet.registry import QueueMaker, Registry
from inferline.tasks.bodies import BodyStore
from inferline.tasks.queue import TaskQueue
from inferline.tasks.store import TaskStore
from inferline.usage.minutes import MinuteStore
from inferline.usage.usage import UsageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStores:
    """The stores of one gateway."""

    store: TaskStore
    queue: TaskQueue
    bodies: BodyStore
    registry: Registry
    queue_maker: QueueMaker
    minute_store: MinuteStore
    keys: KeyStore
    tenants: TenantStore
    usage: UsageStore
    counters: CounterStore
    #: Lends providers their credentials; None: they use their host's own.
    lender: Lender | None = None
    #: Returns the calls to AWS so far, by service and operation.
    aws_calls: Callable[[], Mapping[tuple[str, str], int]] = dict
    #: True for tables that this gateway created itself: no scheduled function aggregates usage.
    emulated: bool = False
