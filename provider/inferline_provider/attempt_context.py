"""What every attempt of a provider works with, made once and shared by all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferline.bodies import BodyStore
from inferline.clock import Clock
from inferline.enrolment import Terms
from inferline.queue import TaskQueue
from inferline.store import TaskStore
from inferline_provider.backend import Backend
from inferline_provider.chunks import ChunkWriter
from inferline_provider.diagnosis import Diagnosis
from inferline_provider.leases import Leases
from inferline_provider.passes import Passes
from inferline_provider.trail import UNTOLD, Telemetry
from inferline_provider.usage import UsageAsker


@dataclass(frozen=True, kw_only=True)
class AttemptContext:
    """What every attempt of a provider works with."""

    provider: str
    terms: Terms
    clock: Clock
    store: TaskStore
    queue: TaskQueue
    bodies: BodyStore
    backend: Backend
    writer: ChunkWriter
    leases: Leases
    #: Backend's name of a model by the name that clients use.
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: Tasks that were failed here.
    passes: Passes
    #: Hears of each fault and of each sign of life.
    diagnosis: Diagnosis
    usage: UsageAsker = field(default_factory=UsageAsker)
    telemetry: Telemetry = UNTOLD
