"""
The registry: which models there are, where their tasks wait, and who serves them.

A model is known once a provider has enrolled it, and stays known; a provider is live while it is
heard of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from inferline.task import Tier, slug

#: What a model or a provider may be called: no markup, no control characters, no spaces.
NAME: Final = re.compile(r"[A-Za-z0-9_./:@+-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that clients may ask for."""

    id: str
    #: The URL of its queue for each tier.
    queues: Mapping[Tier, str]
    created: int = 0
    owned_by: str = "inferline"
    #: Tokens, as a provider told; None when none did.
    context_length: int | None = None

    @property
    def slug(self) -> str:
        """Its name as it stands in keys and queue names."""
        return slug(self.id)


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was known at one moment."""

    models: Mapping[str, Model] = field(default_factory=dict)
    #: Live ones only.
    providers: Mapping[str, Provider] = field(default_factory=dict)

    def serving(self, model: str) -> list[Provider]:
        """The live and healthy providers of a model."""
        return [p for p in self.providers.values() if p.healthy and model in p.models]


class Registry(Protocol):
    """
    Both writes are idempotent. Every method raises `Unavailable` when the store does not answer.
    """

    async def put_models(self, models: Sequence[Model]) -> None:
        """Make models known, or renew what is told of them."""

    async def put_provider(self, provider: Provider) -> None:
        """Say that a provider is live; ``seen_ms`` is set by the store's clock."""

    async def remove_provider(self, provider_id: str) -> None:
        """Say that a provider has left."""

    async def snapshot(self) -> Snapshot:
        """All models, and the providers heard of lately."""


class QueueMaker(Protocol):
    """Makes queues; only enrolment and provisioning have one."""

    async def make(self, model: str) -> Mapping[Tier, str]:
        """The URLs of a model's queues, made where missing."""
