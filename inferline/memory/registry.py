"""The registry in memory."""

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
    ProviderRecord,
    Serving,
    Snapshot,
)
from inferline.memory.dates import Dates


class MemoryRegistry:
    """A `Registry` in memory."""

    def __init__(self, clock: Clock | None = None, *, silent_seconds: float = 35.0) -> None:
        self.silent_seconds = silent_seconds
        self._dates = Dates(clock or SystemClock())
        self._models: dict[str, Model] = {}
        self._providers: dict[str, ProviderRecord] = {}
        #: Who serves each model, and the epoch that it was aggregated in.
        self._servings: dict[str, tuple[int, Serving]] = {}
        self._fleet = Fleet()
        #: The date of a provider's first breach of this hour, and the number of its breaches.
        self._strikes: dict[str, tuple[int, int]] = {}

    def now_ms(self) -> int:
        return self._dates.now_ms()

    async def put_models(self, models: Sequence[Model]) -> None:
        for model in models:
            self._models[model.id] = model
            self._servings.setdefault(model.id, (0, NOBODY))

    async def put_provider(self, provider: ProviderRecord) -> ProviderRecord | None:
        current = self._providers.get(provider.id)
        if current is not None and current.quarantined_ms:
            raise Quarantined
        before = await self.provider(provider.id)
        if before is not None and before.nonce > provider.nonce:
            self._providers[provider.id] = replace(before, twin_ms=self.now_ms())
            raise NameTaken
        self._providers[provider.id] = replace(provider, seen_ms=self.now_ms())
        return before

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        current = self._providers.get(provider_id)
        if current is None or current.quarantined_ms or seen_ms not in (None, current.seen_ms):
            return
        del self._providers[provider_id]

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        now_ms = self.now_ms()
        since_ms, strikes = self._strikes.get(provider_id, (0, 0))
        if since_ms <= now_ms - STRIKE_SECONDS * 1000:
            since_ms, strikes = now_ms, 0
        self._strikes[provider_id] = since_ms, strikes + 1
        current = self._providers.get(provider_id)
        if strikes + 1 >= limit and current is not None and model in current.models:
            self._providers[provider_id] = replace(current, quarantined_ms=now_ms, breach=breach)
        return strikes + 1

    async def pardon(self, provider_id: str) -> bool:
        current = self._providers.get(provider_id)
        if current is None or not current.quarantined_ms:
            return False
        self._providers[provider_id] = replace(current, quarantined_ms=0, breach="")
        self._strikes.pop(provider_id, None)
        return True

    async def remove_model(self, name: str) -> None:
        self._models.pop(name, None)
        self._servings.pop(name, None)

    async def model(self, name: str) -> Model | None:
        return self._with_serving(self._models[name]) if name in self._models else None

    async def models(self) -> dict[str, Model]:
        return {name: self._with_serving(model) for name, model in self._models.items()}

    async def provider(self, provider_id: str) -> ProviderRecord | None:
        provider = self._providers.get(provider_id)
        return provider if provider is not None and self._is_live(provider) else None

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        providers = self._providers.values()
        live = {provider.id: provider for provider in providers if self._is_live(provider)}
        silent = [provider for provider in providers if provider.id not in live]
        return Snapshot(await self.models(), live, silent)

    async def fleet(self) -> Fleet:
        return self._fleet

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        if self._fleet.epoch != fleet.epoch:
            return None
        self._fleet = replace(self._fleet, epoch=fleet.epoch + 1, aggregated_ms=self.now_ms())
        return self._fleet

    async def put_servings(self, epoch: int, servings: Mapping[str, Serving]) -> None:
        for name, serving in servings.items():
            if name in self._models and self._servings[name][0] < epoch:
                self._servings[name] = epoch, serving

    async def put_fleet(self, fleet: Fleet) -> None:
        if self._fleet.epoch == fleet.epoch:
            self._fleet = fleet

    def _is_live(self, provider: ProviderRecord) -> bool:
        return provider.is_live(self.now_ms(), self.silent_seconds)

    def _with_serving(self, model: Model) -> Model:
        _, serving = self._servings[model.id]
        return replace(model, serving=serving).as_of(self.now_ms(), self.silent_seconds)
