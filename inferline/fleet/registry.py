"""
The registry: which models there are, where their tasks wait, and who serves them.

A model is known once a provider has enrolled it, and stays known until somebody removes it; a
provider is live while it is heard of. Who asks for a model reads its row alone: the census
(`inferline.fleet.aggregation`) has counted there who serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from inferline.names import model_hash, slug
from inferline.tasks.task import Tier

#: Stands between a provider's name and what tells a process from others by it; in no `NAME`.
TWIN: Final = "#"

#: What is kept of times and speeds, seconds and tokens a second: less is not told apart from none.
RESOLUTION: Final = 0.001

#: How long a breach counts, seconds, and how long a quarantined provider is remembered.
STRIKE_SECONDS: Final = 3600
QUARANTINE_SECONDS_KEPT: Final = 30 * 24 * 3600

#: What a census has found holds for longer than a provider may be silent, by this share, so that
#: another need not write it anew each time.
SILENT_SLACK: Final = 1 / 3


class NameTaken(Exception):
    """A process that began later is live under a provider's name."""


@dataclass(frozen=True, slots=True)
class ProviderPool:
    """Some providers of a model: how fast they end its tasks, and what else they serve."""

    #: Tasks a second.
    rate: float
    #: The other models, by their marks, and the share (0 to 1) of the pool that serves each.
    rivals: Mapping[str, float] = field(default_factory=dict)

    def rate_for(self, own: float, waiting: Callable[[str], float]) -> float:
        """
        How many of a model's tasks it ends a second while ``own`` of them wait.

        ``waiting`` tells of a rival's; the pool's models share it as their tasks wait. Which of the
        rivals meet at one provider is not known where only a share serves each: then they are taken
        to be spread independently.
        """
        certain = own + sum(waiting(one) for one, share in self.rivals.items() if share == 1)
        rate = self.rate * own / certain
        for one, share in self.rivals.items():
            if share < 1:
                rate *= 1 - share + share * certain / (certain + waiting(one))
        return rate


@dataclass(frozen=True, slots=True)
class TaskSpeed:
    """How fast one task of a model runs at a provider's backend."""

    #: Mean time a task takes, seconds.
    task_seconds: float
    #: Output tokens a second while a task runs; 0 where the backend tells none.
    tokens_per_second: float = 0.0

    def over(self, other: TaskSpeed) -> float:
        """
        How many times as fast as another this is; 0 where they can't be compared.

        By tokens where both know them: whose tasks were longer is not slower for that.
        """
        if self.tokens_per_second > 0 and other.tokens_per_second > 0:
            return self.tokens_per_second / other.tokens_per_second
        return other.task_seconds / self.task_seconds if self.task_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedGroup:
    """How fast some providers of a model run a task of it: those that are about alike."""

    speed: TaskSpeed
    providers: int = 1
    #: Which one it is; empty for more than one.
    only: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Who serves a model, as last counted: the live and healthy providers."""

    providers: int = 0
    slots: int = 0
    #: Mean time a task takes at those that know it, seconds; 0 while none does.
    service_seconds: float = 0.0
    #: Empty while nobody knows how fast they are.
    pools: tuple[ProviderPool, ...] = ()
    #: Of those that have slots and have run it lately (`inferline.fleet.speeds`).
    paces: tuple[SpeedGroup, ...] = ()
    #: When one of them was last heard of, milliseconds since 1970. While there is none: when
    #: anybody was who has the model, healthy or not, or when it was first counted; 0 before that.
    seen_ms: int = 0

    def lasts(self, now_ms: int, silent_seconds: float) -> bool:
        """Whether it may still be so; else all that were counted are silent, and who counts too."""
        return now_ms <= self.seen_ms + silent_seconds * (1 + SILENT_SLACK) * 1000


NOBODY: Final = Serving()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that clients may ask for: all, or those of the tenant that it is reserved for."""

    #: As the registry calls it (`inferline.task.reserved`).
    id: str
    #: The URL of its queue for each tier.
    queues: Mapping[Tier, str]
    created: int = 0
    owned_by: str = "inferline"
    #: Tokens, as a provider told; None when none did.
    context_length: int | None = None
    #: None: an earlier release told of it, and nobody has counted since.
    serving: Serving | None = field(default=None, compare=False)

    @property
    def slug(self) -> str:
        """Its name as it stands in keys and queue names."""
        return slug(self.id)

    @property
    def hash(self) -> str:
        """Its name as it stands in its tasks' ids."""
        return model_hash(self.slug)

    @property
    def is_served(self) -> bool:
        """Whether anybody serves it, as far as one can know."""
        return self.serving is None or self.serving.providers > 0

    def as_of(self, now_ms: int, silent_seconds: float) -> Model:
        """The model, with nobody who serves it where that is all that one still knows."""
        if self.serving is None or self.serving.lasts(now_ms, silent_seconds):
            return self
        return replace(self, serving=replace(NOBODY, seen_ms=self.serving.seen_ms))

    def is_past(self, now_ms: int, seconds_kept: float) -> bool:
        """Whether nobody has had it for so long."""
        seen_ms = self.serving.seen_ms if self.serving else 0
        return not self.is_served and 0 < seen_ms < now_ms - seconds_kept * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider as it last told of itself."""

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
    #: By model, of those that it has run lately.
    speeds: Mapping[str, TaskSpeed] = field(default_factory=dict)
    #: When it was last heard of, milliseconds since 1970 by the store's clock.
    seen_ms: int = 0
    #: Of two processes by one name the one with the larger began later; "" of earlier releases.
    nonce: str = ""
    #: When another process enrolled by its name, milliseconds since 1970; 0: none has.
    twin_ms: int = 0
    #: When it was refused for its breaches, and which was the last; 0 and "" as long as it is not.
    quarantined_ms: int = 0
    breach: str = ""

    def is_live(self, now_ms: int, silent_seconds: float) -> bool:
        """Whether it was heard of lately."""
        return now_ms <= self.seen_ms + silent_seconds * 1000


def twin_id(provider_id: str, nonce: str) -> str:
    """
    What the earlier of two processes with one name is known as, so that the slots of both count.

    No provider can enrol by such a name.
    """
    return f"{provider_id}{TWIN}{nonce[-8:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All providers together, as last counted."""

    #: The number of that census; it only grows, and orders what censuses write.
    turn: int = 0
    #: When it began, milliseconds since 1970; 0 before the first.
    counted_ms: int = 0
    models: int = 0
    #: The live ones, and all their slots.
    providers: int = 0
    slots: int = 0

    def as_of(self, now_ms: int, silent_seconds: float) -> Fleet:
        """The same, with no provider where each of them would have led to a later count."""
        if now_ms <= self.counted_ms + silent_seconds * (1 + SILENT_SLACK) * 1000:
            return self
        return replace(self, providers=0, slots=0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was known at one moment."""

    models: Mapping[str, Model] = field(default_factory=dict)
    #: Live ones only.
    providers: Mapping[str, Provider] = field(default_factory=dict)
    #: Those no longer heard of that have not left.
    silent: Sequence[Provider] = ()


class Registry(Protocol):
    """
    All writes are idempotent. Every method raises `Unavailable` when the store does not answer.
    """

    #: Unheard for so long, a provider is no longer live.
    silent_seconds: float

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock."""

    async def put_models(self, models: Sequence[Model]) -> None:
        """
        Make models known, or renew what is told of them.

        Who serves them is left as counted, which is nobody for a new one.
        """

    async def put_provider(self, provider: Provider) -> Provider | None:
        """
        Say that a provider is live; ``seen_ms`` is set by the store's clock.

        Gives it as it was before; None when it was not live. Raises Quarantined, and NameTaken when
        a process with a larger nonce is live by that name, which then shows when that was.
        """

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        """
        Say that a provider has left; given ``seen_ms``, unless it was heard of since.

        A quarantined one is remembered all the same.
        """

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        """
        Count a breach (`inferline.validation.output_rules`) of a provider that serves ``model``.

        Gives how many there were in the last hour or so. At the ``limit`` it is quarantined.
        """

    async def pardon(self, provider_id: str) -> bool:
        """Take a provider again, and forget its breaches; False where it was not quarantined."""

    async def remove_model(self, name: str) -> None:
        """Forget a model; its queues stay. Who enrols it again makes it known again."""

    async def model(self, name: str) -> Model | None:
        """The model called ``name`` as of now, None where there is none; the cost is one row's."""

    async def models(self) -> dict[str, Model]:
        """All models. Eventually consistent."""

    async def provider(self, provider_id: str) -> Provider | None:
        """A provider as of now, None when it is not live; the cost is one row's."""

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        """Everything; the cost is that of all rows. Eventually consistent unless told otherwise."""

    async def fleet(self) -> Fleet:
        """The last census as of now."""

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        """
        Begin the census after ``fleet``'s; None if somebody has begun it since that was read.

        Of any number that saw the same census one gets the turn. Not idempotent.
        """

    async def put_servings(self, turn: int, servings: Mapping[str, Serving]) -> None:
        """
        Write who serves some models, as the census of ``turn`` has counted.

        What a later turn has written stays, and no model becomes known by it.
        """

    async def put_fleet(self, fleet: Fleet) -> None:
        """Write the sums of the census of ``fleet``'s turn, unless there is a later one."""


class QueueMaker(Protocol):
    """Makes queues; only enrolment and provisioning have one."""

    async def make(self, model: str) -> Mapping[Tier, str]:
        """The URLs of a model's queues, made where missing."""
