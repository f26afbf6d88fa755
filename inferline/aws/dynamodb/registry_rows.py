"""Conversion of models and providers to rows of the registry table and back, without keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from inferline.fleet.registry import (
    Model,
    ProviderPool,
    ProviderRecord,
    Serving,
    SpeedGroup,
    TaskSpeed,
)

#: How long the row of a provider that is gone is kept at most, seconds; aggregation deletes it.
PROVIDER_SECONDS_KEPT: Final = 24 * 3600

#: Rows hold whole numbers.
_MILLI: Final = 1000
_MICRO: Final = 1_000_000

Item = Mapping[str, Any]


def model_of(row: Item) -> Model:
    """Read a model's row. Rows of an earlier release do not say who serves it."""
    return Model(
        id=row["id"],
        queues=row["queues"],
        created=row["created"],
        owned_by=row["owned_by"],
        context_length=row.get("context_length"),
        serving=_serving_of(row["serving"]) if "serving" in row else None,
    )


def model_row(model: Model) -> dict[str, Any]:
    """Build a model's row, without its providers."""
    row = asdict(model)
    del row["serving"]
    return row


def serving_row(serving: Serving) -> dict[str, Any]:
    """Build the attribute of a model's row that says who serves it."""
    return {
        "providers": serving.providers,
        "slots": serving.slots,
        "service_ms": round(serving.service_seconds * _MILLI),
        "pools": [
            {
                "microtasks_per_second": round(pool.rate * _MICRO),
                "rivals": {rival: round(share * _MILLI) for rival, share in pool.rivals.items()},
            }
            for pool in serving.pools
        ],
        "paces": [
            {**_speed_row(group.speed), "providers": group.providers, "only": group.provider_id}
            for group in serving.speed_groups
        ],
        "seen_ms": serving.seen_ms,
    }


def _serving_of(row: Item) -> Serving:
    return Serving(
        providers=row["providers"],
        slots=row["slots"],
        service_seconds=row["service_ms"] / _MILLI,
        pools=tuple(
            ProviderPool(
                pool["microtasks_per_second"] / _MICRO,
                {rival: share / _MILLI for rival, share in pool["rivals"].items()},
            )
            for pool in row["pools"]
        ),
        speed_groups=tuple(
            SpeedGroup(
                speed=_speed_of(group), providers=group["providers"], provider_id=group["only"]
            )
            for group in row["paces"]
        ),
        seen_ms=row["seen_ms"],
    )


def provider_row(provider: ProviderRecord) -> dict[str, Any]:
    """Build a provider's row."""
    row = asdict(provider) | {
        "models": list(provider.models),
        "service_ms": int(provider.service_seconds * _MILLI),
        "millitokens_per_second": round(provider.tokens_per_second * _MILLI),
        "speeds": {name: _speed_row(speed) for name, speed in provider.speeds.items()},
        "ttl": provider.seen_ms // 1000 + PROVIDER_SECONDS_KEPT,
    }
    del row["service_seconds"], row["tokens_per_second"], row["quarantined_ms"], row["breach"]
    return row


def provider_of(row: Item) -> ProviderRecord:
    """Read a provider's row. Rows of an earlier release have fewer attributes."""
    return ProviderRecord(
        id=row["id"],
        models=tuple(row["models"]),
        slots=row["slots"],
        running=row["running"],
        healthy=row["healthy"],
        version=row["version"],
        service_seconds=row["service_ms"] / _MILLI,
        tokens_per_second=row.get("millitokens_per_second", 0) / _MILLI,
        reason=row.get("reason", ""),
        nonce=row.get("nonce", ""),
        twin_ms=row.get("twin_ms", 0),
        speeds={name: _speed_of(speed) for name, speed in row.get("speeds", {}).items()},
        seen_ms=row["seen_ms"],
        quarantined_ms=row.get("quarantined_ms", 0),
        breach=row.get("breach", ""),
    )


def _speed_row(speed: TaskSpeed) -> dict[str, int]:
    return {
        "task_ms": max(1, round(speed.task_seconds * _MILLI)),
        "millitokens_per_second": round(speed.tokens_per_second * _MILLI),
    }


def _speed_of(row: Item) -> TaskSpeed:
    return TaskSpeed(row["task_ms"] / _MILLI, row["millitokens_per_second"] / _MILLI)
