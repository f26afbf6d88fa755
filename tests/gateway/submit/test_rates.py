"""Times in the headers about rate limits, in OpenAI's form."""

from __future__ import annotations

import pytest

from inferline.gateway.submit.rates import duration


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (58_001, "59s"),
        (360_000, "6m0s"),
        (61_205_000, "17h0m5s"),
        (86_400_000, "24h0m0s"),
    ],
)
def test_a_time_is_told_as_in_openais_headers(ms: int, text: str) -> None:
    assert text == duration(ms)
