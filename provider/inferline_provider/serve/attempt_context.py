"""The parts that the attempts of a provider share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferline.clock import Clock
from inferline.fleet.enrolment import Terms
from inferline.tasks.bodies import BodyStore
from inferline.tasks.queue import TaskQueue
from inferline.tasks.store import TaskStore
from inferline_provider.backend.client import BackendClient
from inferline_provider.pauses import PAUSES, Pauses
from inferline_provider.relay.chunks import ChunkWriter
from inferline_provider.relay.usage_question import UsageAsker
from inferline_provider.serve.diagnosis import Diagnosis
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.serve.leases import Leases
from inferline_provider.telemetry.attempts import NO_TELEMETRY, Telemetry


@dataclass(frozen=True, kw_only=True)
class AttemptContext:
    """The parts that the attempts of a provider share; made once."""

    provider: str
    terms: Terms
    clock: Clock
    store: TaskStore
    queue: TaskQueue
    bodies: BodyStore
    backend: BackendClient
    writer: ChunkWriter
    leases: Leases
    #: The backend's name of a model, by the name that clients use.
    aliases: Mapping[str, str] = field(default_factory=dict)
    failed_tasks: FailedTasks
    #: Receives each fault and each sign of life.
    diagnosis: Diagnosis
    usage: UsageAsker = field(default_factory=UsageAsker)
    telemetry: Telemetry = NO_TELEMETRY
    pauses: Pauses = PAUSES
