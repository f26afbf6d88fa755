"""The registry on DynamoDB: partitions of models and of providers, and the row of the fleet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.expressions import IfAbsent
from inferline.aws.dynamodb.registry_rows import (
    model_of,
    model_row,
    provider_of,
    provider_row,
    serving_row,
)
from inferline.aws.dynamodb.table import Item, Table, key_of
from inferline.errors import Quarantined
from inferline.fleet.registry import (
    NOBODY,
    QUARANTINE_SECONDS_KEPT,
    STRIKE_SECONDS,
    Fleet,
    Model,
    NameTaken,
    ProviderRecord,
    Serving,
    Snapshot,
)

MODELS: Final = "MODEL"
PROVIDERS: Final = "PROVIDER"
FLEET: Final = "FLEET"
#: The breaches of providers. Their own rows are written anew by each heartbeat.
STRIKES: Final = "STRIKE"
_FREE: Final = "attribute_not_exists(#quarantined_ms)"
#: Not quarantined, and no process that began later is live by the same name.
_LATEST: Final = (
    f"{_FREE} AND (attribute_not_exists(#nonce) OR #nonce <= :nonce OR #seen_ms < :silent_ms)"
)
#: A model's row that no later aggregation has written.
_EARLIER: Final = "attribute_exists(pk) AND (attribute_not_exists(#turn) OR #turn < :turn)"
#: The keys of the fleet's row, by the fields of `Fleet`.
_FLEET_KEYS: Final = {spec.name: spec.name for spec in fields(Fleet)} | {
    "epoch": "turn",
    "aggregated_ms": "counted_ms",
}
#: How many rows an aggregation writes at once.
WRITES_MAX: Final = 25


class DynamoRegistry:
    """`Registry` on one table. The client's clock, which is AWS's, judges who is live."""

    def __init__(self, client: AwsClient, table: str, silent_seconds: float) -> None:
        self.silent_seconds = silent_seconds
        self._table = Table(client, table)

    def now_ms(self) -> int:
        return self._table.now_ms()

    async def put_models(self, models: Sequence[Model]) -> None:
        await asyncio.gather(*map(self._put_model, models))

    async def _put_model(self, model: Model) -> None:
        row = model_row(model)
        known = {name: value for name, value in row.items() if value is not None}
        await self._table.update(
            key_of(MODELS, model.id),
            set={**known, "serving": IfAbsent(serving_row(NOBODY))},
            remove=[name for name in row if name not in known],
        )

    async def put_provider(self, provider: ProviderRecord) -> ProviderRecord | None:
        now_ms = self.now_ms()
        row = provider_row(replace(provider, seen_ms=now_ms))
        silent_ms = now_ms - round(self.silent_seconds * 1000)
        try:
            before = await self._table.put(
                {**row, "pk": PROVIDERS, "sk": provider.id},
                condition=_LATEST,
                values={"nonce": provider.nonce, "silent_ms": silent_ms},
                returns="ALL_OLD",
                show_refused=True,
            )
        except ConditionFailed as refused:
            if "quarantined_ms" in refused.item:
                raise Quarantined from refused
            with suppress(ConditionFailed):
                key = key_of(PROVIDERS, provider.id)
                exists = "attribute_exists(pk)"
                await self._table.update(key, set={"twin_ms": now_ms}, condition=exists)
            raise NameTaken from refused
        return self._live(before)

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        condition, values = _FREE, {}
        if seen_ms is not None:
            condition, values = f"{_FREE} AND #seen_ms = :seen_ms", {"seen_ms": seen_ms}
        with suppress(ConditionFailed):
            key = key_of(PROVIDERS, provider_id)
            await self._table.delete(key, condition=condition, values=values)

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        now_ms = self.now_ms()
        strikes = await self._count_strike(provider_id, now_ms)
        if strikes >= limit:
            ttl = now_ms // 1000 + QUARANTINE_SECONDS_KEPT
            with suppress(ConditionFailed):  # Its name was forged: it serves no such model.
                await self._table.update(
                    key_of(PROVIDERS, provider_id),
                    set={"quarantined_ms": now_ms, "breach": breach, "ttl": ttl},
                    condition=f"{_FREE} AND contains(#models, :model)",
                    values={"model": model},
                )
        return strikes

    async def _count_strike(self, provider_id: str, now_ms: int) -> int:
        key = key_of(STRIKES, provider_id)
        try:
            item = await self._table.update(
                key,
                add={"strikes": 1},
                condition="#since_ms > :oldest",
                values={"oldest": now_ms - STRIKE_SECONDS * 1000},
                returns="UPDATED_NEW",
            )
        except ConditionFailed:  # The first of an hour. Of two at one moment one may not count.
            ttl = now_ms // 1000 + STRIKE_SECONDS
            await self._table.update(key, set={"strikes": 1, "since_ms": now_ms, "ttl": ttl})
            return 1
        return int(item["strikes"]["N"])

    async def pardon(self, provider_id: str) -> bool:
        try:
            await self._table.update(
                key_of(PROVIDERS, provider_id),
                remove=("quarantined_ms", "breach"),
                condition="attribute_exists(#quarantined_ms)",
            )
        except ConditionFailed:
            return False
        await self._table.delete(key_of(STRIKES, provider_id))
        return True

    async def remove_model(self, name: str) -> None:
        await self._table.delete(key_of(MODELS, name))

    async def model(self, name: str) -> Model | None:
        item = await self._table.get(key_of(MODELS, name))
        return self._model(from_item(item)) if item else None

    async def models(self) -> dict[str, Model]:
        return await self._models(consistent=False)

    async def provider(self, provider_id: str) -> ProviderRecord | None:
        return self._live(await self._table.get(key_of(PROVIDERS, provider_id)))

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        models, rows = await asyncio.gather(
            self._models(consistent=consistent),
            self._table.rows(PROVIDERS, consistent=consistent),
        )
        providers = list(map(provider_of, rows))
        live = {provider.id: provider for provider in providers if self._is_live(provider)}
        return Snapshot(models, live, [p for p in providers if p.id not in live])

    async def fleet(self) -> Fleet:
        row = from_item(await self._table.get(key_of(FLEET, FLEET)))
        return Fleet(**{name: row[key] for name, key in _FLEET_KEYS.items() if key in row})

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        begun = replace(fleet, epoch=fleet.epoch + 1, aggregated_ms=self.now_ms())
        write_id = secrets.token_hex(8)
        try:
            await self._table.update(
                key_of(FLEET, FLEET),
                set={"turn": begun.epoch, "counted_ms": begun.aggregated_ms, "token": write_id},
                condition="#turn = :seen" if fleet.epoch else "attribute_not_exists(#turn)",
                values={"seen": fleet.epoch} if fleet.epoch else {},
                show_refused=True,
            )
        except ConditionFailed as refused:
            # A repeat of this write, whose answer was lost, is recognised by its id.
            return begun if refused.item.get("token") == {"S": write_id} else None
        return begun

    async def put_servings(self, epoch: int, servings: Mapping[str, Serving]) -> None:
        entries = list(servings.items())
        for start in range(0, len(entries), WRITES_MAX):
            batch = entries[start : start + WRITES_MAX]
            await asyncio.gather(
                *(self._put_serving(epoch, name, serving) for name, serving in batch)
            )

    async def _put_serving(self, epoch: int, name: str, serving: Serving) -> None:
        changes = {"serving": serving_row(serving), "turn": epoch}
        with suppress(ConditionFailed):
            await self._table.update(key_of(MODELS, name), set=changes, condition=_EARLIER)

    async def put_fleet(self, fleet: Fleet) -> None:
        names = ("models", "providers", "slots", "epoch")
        sums = {_FLEET_KEYS[name]: getattr(fleet, name) for name in names}
        with suppress(ConditionFailed):
            await self._table.update(key_of(FLEET, FLEET), set=sums, condition="#turn = :turn")

    async def _models(self, *, consistent: bool) -> dict[str, Model]:
        rows = await self._table.rows(MODELS, consistent=consistent)
        return {row["id"]: self._model(row) for row in rows}

    def _model(self, row: Mapping[str, Any]) -> Model:
        return model_of(row).as_of(self.now_ms(), self.silent_seconds)

    def _live(self, item: Item) -> ProviderRecord | None:
        provider = provider_of(from_item(item)) if item else None
        return provider if provider is not None and self._is_live(provider) else None

    def _is_live(self, provider: ProviderRecord) -> bool:
        return provider.is_live(self.now_ms(), self.silent_seconds)
