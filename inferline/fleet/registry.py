"""
The registry: the models, their queues, and the providers that serve them.

A model is known from its first enrolment until somebody removes it; a provider is live while it is
heard of. A request reads its model's row alone: the aggregation (`inferline.fleet.aggregation`) has
written there who serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from inferline.names import model_hash, slug
from inferline.tasks.task import Tier

#: Separates a provider's name from the suffix of a second process with it; in no `NAME`.
TWIN: Final = "#"

#: Precision of stored times and speeds, seconds and tokens a second: less is stored as 0.
RESOLUTION: Final = 0.001

#: How long a breach counts, seconds, and how long a quarantined provider is remembered.
STRIKE_SECONDS: Final = 3600
QUARANTINE_SECONDS_KEPT: Final = 30 * 24 * 3600

#: An aggregation holds for longer than a provider may be silent, by this share, so that
#: another need not write it anew each time.
SILENT_SLACK: Final = 1 / 3


class NameTaken(Exception):
    """A process that began later is live under a provider's name."""


@dataclass(frozen=True, slots=True)
class ProviderPool:
    """Some providers of a model: how fast they end its tasks, and what else they serve."""

    #: Tasks a second.
    rate: float
    #: The other models, by their hashes, and the share (0 to 1) of the pool that serves each.
    rivals: Mapping[str, float] = field(default_factory=dict)

    def rate_for(self, own: float, waiting: Callable[[str], float]) -> float:
        """
        Return how many of a model's tasks the pool ends a second while ``own`` of them wait.

        ``waiting`` returns a rival's queue length; the pool's models share it in proportion to
        their waiting tasks. Where only a share of the pool serves a rival, it is unknown which
        rivals meet at one provider: they are taken to be spread independently.
        """
        certain = own + sum(waiting(rival) for rival, share in self.rivals.items() if share == 1)
        rate = self.rate * own / certain
        for rival, share in self.rivals.items():
            if share < 1:
                rate *= 1 - share + share * certain / (certain + waiting(rival))
        return rate


@dataclass(frozen=True, slots=True)
class TaskSpeed:
    """The speed of one task of a model at a provider's backend."""

    #: Mean time a task takes, seconds.
    task_seconds: float
    #: Output tokens a second while a task runs; 0 if the backend reports none.
    tokens_per_second: float = 0.0

    def over(self, other: TaskSpeed) -> float:
        """
        Return how many times as fast as another this is; 0 if they can't be compared.

        By tokens where both are known: longer tasks do not make a provider slower.
        """
        if self.tokens_per_second > 0 and other.tokens_per_second > 0:
            return self.tokens_per_second / other.tokens_per_second
        return other.task_seconds / self.task_seconds if self.task_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedGroup:
    """Some providers of a model that run its tasks about equally fast."""

    speed: TaskSpeed
    providers: int = 1
    #: Empty for more than one provider.
    provider_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The live and healthy providers of a model, as last aggregated."""

    providers: int = 0
    slots: int = 0
    #: Mean time a task takes at those that know it, seconds; 0 while none does.
    service_seconds: float = 0.0
    #: Empty while nobody knows how fast they are.
    pools: tuple[ProviderPool, ...] = ()
    #: The speeds of those that have slots and have run it lately (`inferline.fleet.speeds`).
    speed_groups: tuple[SpeedGroup, ...] = ()
    #: When one of them was last heard of, milliseconds since 1970. While there is none: when
    #: any provider with the model was, healthy or not, or its first aggregation; 0 before that.
    seen_ms: int = 0

    def lasts(self, now_ms: int, silent_seconds: float) -> bool:
        """
        Return True if it may still be so; else all the providers are silent, and nobody aggregates.
        """
        return now_ms <= self.seen_ms + silent_seconds * (1 + SILENT_SLACK) * 1000


NOBODY: Final = Serving()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that clients may ask for: everybody's, or the one dedicated to a tenant."""

    #: The registry's name for it (`inferline.names.dedicated_name`).
    id: str
    #: The URL of its queue for each tier.
    queues: Mapping[Tier, str]
    created: int = 0
    owned_by: str = "inferline"
    #: Tokens, as a provider reported; None if none did.
    context_length: int | None = None
    #: None: an earlier release wrote it, and nobody has aggregated since.
    serving: Serving | None = field(default=None, compare=False)

    @property
    def slug(self) -> str:
        """Return its name in keys and queue names."""
        return slug(self.id)

    @property
    def hash(self) -> str:
        """Return its hash in its tasks' ids."""
        return model_hash(self.slug)

    @property
    def is_served(self) -> bool:
        """Return True if any provider serves it, as far as is known."""
        return self.serving is None or self.serving.providers > 0

    def as_of(self, now_ms: int, silent_seconds: float) -> Model:
        """
        Return the model as it can be known now: without providers once its serving has lapsed.
        """
        if self.serving is None or self.serving.lasts(now_ms, silent_seconds):
            return self
        return replace(self, serving=replace(NOBODY, seen_ms=self.serving.seen_ms))

    def is_past(self, now_ms: int, seconds_kept: float) -> bool:
        """Return True if no provider has had it for so long."""
        seen_ms = self.serving.seen_ms if self.serving else 0
        return not self.is_served and 0 < seen_ms < now_ms - seconds_kept * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRecord:
    """A provider, as its last enrolment described it."""

    id: str
    models: tuple[str, ...]
    slots: int
    running: int
    healthy: bool
    version: str
    #: Mean time a task of its takes at the backend, seconds; 0 before the first.
    service_seconds: float = 0.0
    #: Output tokens a second over its last minute; 0 where its backend does not tell.
    tokens_per_second: float = 0.0
    #: Why it takes no work; empty when it does.
    reason: str = ""
    #: By model, for models that it has run lately.
    speeds: Mapping[str, TaskSpeed] = field(default_factory=dict)
    #: When it was last heard of, milliseconds since 1970 by the store's clock.
    seen_ms: int = 0
    #: Of two processes with one name the one with the larger began later; "" in earlier releases.
    nonce: str = ""
    #: When another process enrolled by its name, milliseconds since 1970; 0: none has.
    twin_ms: int = 0
    #: When it was refused for its breaches, and which was the last; 0 and "" as long as it is not.
    quarantined_ms: int = 0
    breach: str = ""

    def is_live(self, now_ms: int, silent_seconds: float) -> bool:
        """Return True if it was heard of lately."""
        return now_ms <= self.seen_ms + silent_seconds * 1000


def twin_id(provider_id: str, nonce: str) -> str:
    """
    Return the id for the earlier of two processes with one name, so that the slots of both count.

    No provider can enrol by such an id.
    """
    return f"{provider_id}{TWIN}{nonce[-8:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All providers together, as last aggregated."""

    #: The number of its epoch; it only grows, and orders what aggregations write.
    epoch: int = 0
    #: When it began, milliseconds since 1970; 0 before the first.
    aggregated_ms: int = 0
    models: int = 0
    #: The live ones, and all their slots.
    providers: int = 0
    slots: int = 0

    def as_of(self, now_ms: int, silent_seconds: float) -> Fleet:
        """
        Return the fleet as it can be known now: without providers if they should have led to a
        later aggregation.
        """
        if now_ms <= self.aggregated_ms + silent_seconds * (1 + SILENT_SLACK) * 1000:
            return self
        return replace(self, providers=0, slots=0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything in the registry at one moment."""

    models: Mapping[str, Model] = field(default_factory=dict)
    #: Live ones only.
    providers: Mapping[str, ProviderRecord] = field(default_factory=dict)
    #: Providers that have fallen silent without leaving.
    silent: Sequence[ProviderRecord] = ()


class Registry(Protocol):
    """
    The store of models and providers. All writes are idempotent unless they say otherwise.

    Every method raises `Unavailable` when the store does not answer.
    """

    #: A provider that is silent for longer is no longer live.
    silent_seconds: float

    def now_ms(self) -> int:
        """Return milliseconds since 1970 by the store's clock."""

    async def put_models(self, models: Sequence[Model]) -> None:
        """
        Add models, or update their descriptions.

        Who serves them stays as aggregated, which is nobody for a new one.
        """

    async def put_provider(self, provider: ProviderRecord) -> ProviderRecord | None:
        """
        Store that a provider is live; the store's clock sets ``seen_ms``.

        Returns the record before; None if it was not live. Raises Quarantined, and NameTaken if a
        process with a larger nonce is live by that name, whose record then notes the time.
        """

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        """
        Remove a provider that has left; given ``seen_ms``, unless it was heard of since.

        The quarantine of one is kept all the same.
        """

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        """
        Count a breach (`inferline.validation.output_rules`) of a provider that serves ``model``.

        Returns how many there were in the last hour or so. At the ``limit`` it is quarantined.
        """

    async def pardon(self, provider_id: str) -> bool:
        """End a provider's quarantine and forget its breaches; False if it was not quarantined."""

    async def remove_model(self, name: str) -> None:
        """Remove a model; its queues stay. Another enrolment adds it again."""

    async def model(self, name: str) -> Model | None:
        """
        Return the model called ``name``, strongly consistent; None if there is none. Reads one row.
        """

    async def models(self) -> dict[str, Model]:
        """Return all models. Eventually consistent."""

    async def provider(self, provider_id: str) -> ProviderRecord | None:
        """Return a live provider, strongly consistent; None if it is not live. Reads one row."""

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        """Return everything, reading all rows. Eventually consistent by default."""

    async def fleet(self) -> Fleet:
        """Return the sums of the last aggregation, strongly consistent."""

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        """
        Begin the epoch after ``fleet``'s; None if somebody has begun it since that was read.

        Of several that read the same epoch, one begins the next. Not idempotent.
        """

    async def put_servings(self, epoch: int, servings: Mapping[str, Serving]) -> None:
        """
        Write who serves some models, as aggregated in ``epoch``.

        What a later epoch has written stays, and no model is added by it.
        """

    async def put_fleet(self, fleet: Fleet) -> None:
        """Write the sums of the aggregation of ``fleet``'s epoch, unless there is a later one."""


class QueueMaker(Protocol):
    """A maker of queues; only enrolment and provisioning have one."""

    async def make(self, model: str) -> Mapping[Tier, str]:
        """Return the URLs of a model's queues, made where missing."""
