"""The registry in memory, for tests and trials: the `Registry` that forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from inferline.clock import Clock, SystemClock
from inferline.errors import Quarantined
from inferline.fleet.registry import (
    NOBODY,
    STRIKE_SECONDS,
    Fleet,
    Model,
    NameTaken,
    Provider,
    Serving,
    Snapshot,
)
from inferline.memory.tasks import Dates


class MemoryRegistry:
    """A `Registry` in memory."""

    def __init__(self, clock: Clock | None = None, *, silent_seconds: float = 35.0) -> None:
        self.silent_seconds = silent_seconds
        self._dates = Dates(clock or SystemClock())
        self._models: dict[str, Model] = {}
        self._providers: dict[str, Provider] = {}
        #: Who serves each model, and the turn of the census that found it.
        self._servings: dict[str, tuple[int, Serving]] = {}
        self._fleet = Fleet()
        #: When the first breach of this hour was, and how many there were.
        self._strikes: dict[str, tuple[int, int]] = {}

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock."""
        return self._dates.now_ms()

    async def put_models(self, models: Sequence[Model]) -> None:
        """Make models known."""
        for model in models:
            self._models[model.id] = model
            self._servings.setdefault(model.id, (0, NOBODY))

    async def put_provider(self, provider: Provider) -> Provider | None:
        """Say that a provider is live."""
        there = self._providers.get(provider.id)
        if there is not None and there.quarantined_ms:
            raise Quarantined
        before = await self.provider(provider.id)
        if before is not None and before.nonce > provider.nonce:
            self._providers[provider.id] = replace(before, twin_ms=self.now_ms())
            raise NameTaken
        self._providers[provider.id] = replace(provider, seen_ms=self.now_ms())
        return before

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        """Say that a provider has left."""
        there = self._providers.get(provider_id)
        if there is None or there.quarantined_ms or seen_ms not in (None, there.seen_ms):
            return
        del self._providers[provider_id]

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        """Count a breach of a provider."""
        now_ms = self.now_ms()
        since_ms, strikes = self._strikes.get(provider_id, (0, 0))
        if since_ms <= now_ms - STRIKE_SECONDS * 1000:
            since_ms, strikes = now_ms, 0
        self._strikes[provider_id] = since_ms, strikes + 1
        there = self._providers.get(provider_id)
        if strikes + 1 >= limit and there is not None and model in there.models:
            self._providers[provider_id] = replace(there, quarantined_ms=now_ms, breach=breach)
        return strikes + 1

    async def pardon(self, provider_id: str) -> bool:
        """Take a provider again."""
        there = self._providers.get(provider_id)
        if there is None or not there.quarantined_ms:
            return False
        self._providers[provider_id] = replace(there, quarantined_ms=0, breach="")
        self._strikes.pop(provider_id, None)
        return True

    async def remove_model(self, name: str) -> None:
        """Forget a model."""
        self._models.pop(name, None)
        self._servings.pop(name, None)

    async def model(self, name: str) -> Model | None:
        """The model called ``name``."""
        return self._counted(self._models[name]) if name in self._models else None

    async def models(self) -> dict[str, Model]:
        """All models."""
        return {name: self._counted(model) for name, model in self._models.items()}

    async def provider(self, provider_id: str) -> Provider | None:
        """A live provider."""
        found = self._providers.get(provider_id)
        return found if found is not None and self._is_live(found) else None

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        """Everything."""
        providers = self._providers.values()
        live = {provider.id: provider for provider in providers if self._is_live(provider)}
        silent = [provider for provider in providers if provider.id not in live]
        return Snapshot(await self.models(), live, silent)

    async def fleet(self) -> Fleet:
        """The last census."""
        return self._fleet

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        """Begin the census after ``fleet``'s."""
        if self._fleet.turn != fleet.turn:
            return None
        turn = {"turn": fleet.turn + 1, "counted_ms": self.now_ms()}
        self._fleet = replace(self._fleet, **turn)
        return self._fleet

    async def put_servings(self, turn: int, servings: Mapping[str, Serving]) -> None:
        """Write who serves some models."""
        for name, serving in servings.items():
            if name in self._models and self._servings[name][0] < turn:
                self._servings[name] = turn, serving

    async def put_fleet(self, fleet: Fleet) -> None:
        """Write the sums of a census."""
        if self._fleet.turn == fleet.turn:
            self._fleet = fleet

    def _is_live(self, provider: Provider) -> bool:
        return provider.is_live(self.now_ms(), self.silent_seconds)

    def _counted(self, model: Model) -> Model:
        _, serving = self._servings[model.id]
        return replace(model, serving=serving).as_of(self.now_ms(), self.silent_seconds)
