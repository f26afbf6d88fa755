"""The registry on DynamoDB: a partition of models, one of providers, and the last census's row."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed, call
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.pages import queried
from inferline.aws.dynamodb.registry_rows import (
    model_of,
    model_row,
    provider_of,
    provider_row,
    serving_row,
)
from inferline.errors import Quarantined
from inferline.fleet.registry import (
    NOBODY,
    QUARANTINE_SECONDS_KEPT,
    STRIKE_SECONDS,
    Fleet,
    Model,
    NameTaken,
    Provider,
    Serving,
    Snapshot,
)

MODELS: Final = "MODEL"
PROVIDERS: Final = "PROVIDER"
FLEET: Final = "FLEET"
#: Breaches of providers, beside their rows, which each heartbeat writes anew.
STRIKES: Final = "STRIKE"
FREE: Final = "attribute_not_exists(quarantined_ms)"
#: Whether it is free and no process is live by that name that began later.
LATEST: Final = (
    f"{FREE} AND (attribute_not_exists(nonce) OR nonce <= :nonce OR seen_ms < :silent_ms)"
)
#: What a census may write to: a model's row that no later one has written.
EARLIER: Final = "attribute_exists(pk) AND (attribute_not_exists(#turn) OR #turn < :turn)"
#: How many such rows it writes at once.
WRITES_MAX: Final = 25


class DynamoRegistry:
    """`Registry` on one table. The client's clock, which is AWS's, judges who is live."""

    def __init__(self, client: AwsClient, table: str, silent_seconds: float) -> None:
        self.silent_seconds = silent_seconds
        self._client = client
        self._table = table

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    async def put_models(self, models: Sequence[Model]) -> None:
        """Make models known; see `Registry`."""
        await asyncio.gather(*map(self._know, models))

    async def put_provider(self, provider: Provider) -> Provider | None:
        """Say that a provider is live; see `Registry`."""
        now_ms = self.now_ms()
        row = provider_row(replace(provider, seen_ms=now_ms))
        silent_ms = now_ms - round(self.silent_seconds * 1000)
        try:
            answer = await self._call(
                "PutItem",
                Item=to_item({**row, "pk": PROVIDERS, "sk": provider.id}),
                ReturnValues="ALL_OLD",
                ConditionExpression=LATEST,
                ExpressionAttributeValues=to_item(
                    {":nonce": provider.nonce, ":silent_ms": silent_ms}
                ),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if "quarantined_ms" in refused.item:
                raise Quarantined from refused
            with suppress(ConditionFailed):
                key = _key(PROVIDERS, provider.id)
                await self._set(key, {"twin_ms": now_ms}, "attribute_exists(pk)")
            raise NameTaken from refused
        return self._live(answer.get("Attributes"))

    async def remove_provider(self, provider_id: str, seen_ms: int | None = None) -> None:
        """Say that a provider has left; see `Registry`."""
        request: dict[str, Any] = {"ConditionExpression": FREE}
        if seen_ms is not None:
            request["ConditionExpression"] += " AND seen_ms = :seen_ms"
            request["ExpressionAttributeValues"] = to_item({":seen_ms": seen_ms})
        with suppress(ConditionFailed):
            await self._call("DeleteItem", Key=_key(PROVIDERS, provider_id), **request)

    async def strike(self, provider_id: str, model: str, breach: str, limit: int) -> int:
        """Count a breach; see `Registry`."""
        now_ms = self.now_ms()
        strikes = await self._count_strike(provider_id, now_ms)
        if strikes >= limit:
            told = {"quarantined_ms": now_ms, "breach": breach}
            told["ttl"] = now_ms // 1000 + QUARANTINE_SECONDS_KEPT
            with suppress(ConditionFailed):  # Whoever wrote its name there: it is not its model.
                await self._set(
                    _key(PROVIDERS, provider_id),
                    told,
                    f"contains(#models, :model) AND {FREE}",
                    {"model": model},
                    ("models",),
                )
        return strikes

    async def _count_strike(self, provider_id: str, now_ms: int) -> int:
        key = _key(STRIKES, provider_id)
        try:
            answer = await self._call(
                "UpdateItem",
                Key=key,
                UpdateExpression="ADD strikes :one",
                ConditionExpression="since_ms > :oldest",
                ExpressionAttributeValues=to_item(
                    {":one": 1, ":oldest": now_ms - STRIKE_SECONDS * 1000}
                ),
                ReturnValues="UPDATED_NEW",
            )
        except ConditionFailed:  # The first of an hour. Of two at one moment one may not count.
            ttl = now_ms // 1000 + STRIKE_SECONDS
            await self._set(key, {"strikes": 1, "since_ms": now_ms, "ttl": ttl})
            return 1
        return int(answer["Attributes"]["strikes"]["N"])

    async def pardon(self, provider_id: str) -> bool:
        """Take a provider again; see `Registry`."""
        try:
            await self._call(
                "UpdateItem",
                Key=_key(PROVIDERS, provider_id),
                UpdateExpression="REMOVE quarantined_ms, breach",
                ConditionExpression="attribute_exists(quarantined_ms)",
            )
        except ConditionFailed:
            return False
        await self._call("DeleteItem", Key=_key(STRIKES, provider_id))
        return True

    async def remove_model(self, name: str) -> None:
        """Forget a model; see `Registry`."""
        await self._call("DeleteItem", Key=_key(MODELS, name))

    async def model(self, name: str) -> Model | None:
        """The model called ``name``; see `Registry`."""
        item = await self._get(MODELS, name)
        return self._model(from_item(item)) if item else None

    async def models(self) -> dict[str, Model]:
        """All models; see `Registry`."""
        return await self._models(consistent=False)

    async def provider(self, provider_id: str) -> Provider | None:
        """A live provider; see `Registry`."""
        return self._live(await self._get(PROVIDERS, provider_id))

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        """Everything; see `Registry`."""
        models, found = await asyncio.gather(
            self._models(consistent=consistent),
            rows(self._client, self._table, PROVIDERS, consistent=consistent),
        )
        providers = list(map(provider_of, found))
        live = {provider.id: provider for provider in providers if self._is_live(provider)}
        return Snapshot(models, live, [one for one in providers if one.id not in live])

    async def fleet(self) -> Fleet:
        """The last census; see `Registry`."""
        row = from_item(await self._get(FLEET, FLEET))
        return Fleet(**{spec.name: row[spec.name] for spec in fields(Fleet) if spec.name in row})

    async def begin_epoch(self, fleet: Fleet) -> Fleet | None:
        """Begin the census after ``fleet``'s; see `Registry`."""
        turn = replace(fleet, turn=fleet.turn + 1, counted_ms=self.now_ms())
        token = secrets.token_hex(8)
        values = {":turn": turn.turn, ":counted_ms": turn.counted_ms, ":token": token}
        seen = {":seen": fleet.turn} if fleet.turn else {}
        try:
            await self._call(
                "UpdateItem",
                Key=_key(FLEET, FLEET),
                UpdateExpression="SET #turn = :turn, #counted_ms = :counted_ms, #token = :token",
                ConditionExpression="#turn = :seen" if seen else "attribute_not_exists(#turn)",
                ExpressionAttributeNames={f"#{n}": n for n in ("turn", "counted_ms", "token")},
                ExpressionAttributeValues=to_item(values | seen),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            # A repeat of our own write, whose answer was lost, is told by its token.
            return turn if refused.item.get("token") == {"S": token} else None
        return turn

    async def put_servings(self, turn: int, servings: Mapping[str, Serving]) -> None:
        """Write who serves some models; see `Registry`."""
        found = [(_key(MODELS, name), serving_row(one)) for name, one in servings.items()]
        for start in range(0, len(found), WRITES_MAX):
            some = found[start : start + WRITES_MAX]
            writes = (self._write(key, turn, {"serving": row}, EARLIER) for key, row in some)
            await asyncio.gather(*writes)

    async def put_fleet(self, fleet: Fleet) -> None:
        """Write the sums of a census; see `Registry`."""
        sums = {name: getattr(fleet, name) for name in ("models", "providers", "slots")}
        await self._write(_key(FLEET, FLEET), fleet.turn, sums, "#turn = :turn")

    async def _know(self, model: Model) -> None:
        row = model_row(model)
        told = {name: value for name, value in row.items() if value is not None}
        absent = [f"#{name}" for name in row if name not in told]
        sets = [f"#{name} = :{name}" for name in told]
        sets.append("#serving = if_not_exists(#serving, :nobody)")
        values = {f":{name}": value for name, value in told.items()}
        await self._call(
            "UpdateItem",
            Key=_key(MODELS, model.id),
            UpdateExpression=f"SET {', '.join(sets)}"
            + (f" REMOVE {', '.join(absent)}" if absent else ""),
            ExpressionAttributeNames={f"#{name}": name for name in (*row, "serving")},
            ExpressionAttributeValues=to_item(values | {":nobody": serving_row(NOBODY)}),
        )

    async def _write(self, key: Any, turn: int, values: Mapping[str, Any], condition: str) -> None:
        """Set ``values`` and the turn of their census, unless a later one has written there."""
        with suppress(ConditionFailed):
            await self._set(key, {**values, "turn": turn}, condition)

    async def _set(
        self,
        key: Any,
        told: Mapping[str, Any],
        condition: str = "",
        values: Mapping[str, Any] = {},
        names: Sequence[str] = (),
    ) -> None:
        """Set attributes under a condition of theirs, or of further values and names."""
        await self._call(
            "UpdateItem",
            Key=key,
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in told),
            **({"ConditionExpression": condition} if condition else {}),
            ExpressionAttributeNames={f"#{name}": name for name in (*told, *names)},
            ExpressionAttributeValues=to_item({f":{k}": v for k, v in {**told, **values}.items()}),
        )

    async def _models(self, *, consistent: bool) -> dict[str, Model]:
        found = await rows(self._client, self._table, MODELS, consistent=consistent)
        return {row["id"]: self._model(row) for row in found}

    def _model(self, row: Mapping[str, Any]) -> Model:
        return model_of(row).as_of(self.now_ms(), self.silent_seconds)

    def _live(self, item: Mapping[str, Any] | None) -> Provider | None:
        provider = provider_of(from_item(item)) if item else None
        return provider if provider is not None and self._is_live(provider) else None

    def _is_live(self, provider: Provider) -> bool:
        return provider.is_live(self.now_ms(), self.silent_seconds)

    async def _get(self, kind: str, name: str) -> dict[str, Any]:
        answer = await self._call("GetItem", Key=_key(kind, name), ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item") or {}
        return item

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


async def rows(
    client: AwsClient, table: str, kind: str, *, first: str = "", consistent: bool = True
) -> list[dict[str, Any]]:
    """
    All rows of one partition, or those from the name ``first`` on, in the order of their names.

    Raises Unavailable.
    """
    values = {":kind": kind} | ({":first": first} if first else {})
    request: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "pk = :kind" + (" AND sk >= :first" if first else ""),
        "ExpressionAttributeValues": to_item(values),
        "ConsistentRead": consistent,
    }
    return [from_item(item) async for item in queried(client, request)]


def _key(kind: str, name: str) -> dict[str, Any]:
    return to_item({"pk": kind, "sk": name})
