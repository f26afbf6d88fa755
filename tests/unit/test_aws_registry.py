"""Rows that an earlier release wrote are read."""

from __future__ import annotations

from inferline.aws.registry import _provider


def test_a_provider_of_an_earlier_release_has_no_speed_and_no_reason() -> None:
    row = {
        "id": "p1", "models": ["m"], "slots": 4, "running": 1, "healthy": True, "version": "1",
        "service_ms": 1500, "seen_ms": 7,
    }  # fmt: skip

    found = _provider(row)

    assert (1.5, 0.0, "") == (found.service_seconds, found.tokens_per_second, found.reason)
    assert {} == found.speeds
