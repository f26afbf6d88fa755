"""Rows that an earlier release wrote are read."""

from __future__ import annotations

from inferline.aws.dynamodb.registry_rows import model_of, provider_of


def test_a_provider_of_an_earlier_release_has_no_speed_and_no_reason() -> None:
    row = {
        "id": "p1", "models": ["m"], "slots": 4, "running": 1, "healthy": True, "version": "1",
        "service_ms": 1500, "seen_ms": 7,
    }  # fmt: skip

    provider = provider_of(row)

    assert (1.5, 0.0, "") == (provider.service_seconds, provider.tokens_per_second, provider.reason)
    assert {} == provider.speeds


def test_a_model_of_an_earlier_release_may_be_served_until_somebody_has_counted() -> None:
    row = {"id": "m", "queues": {"default": "u"}, "created": 7, "owned_by": "inferline"}

    model = model_of(row).as_of(now_ms=10**12, silent_seconds=35.0)

    assert (None, True) == (model.serving, model.is_served)
