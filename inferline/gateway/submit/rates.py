"""The state of rate limits, in OpenAI's response headers and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Final, Literal, NamedTuple, get_args

from inferline.accounts.limits import Limits
from inferline.accounts.rate_counters import DAY_MS, MINUTE_MS, CounterRow, Limit, LimitOwner
from inferline.errors import QuotaExhausted, RateLimitReached, RequestsLimited, TokensLimited

#: When to retry for a place among those under way: nobody knows when one of them ends.
PLACE_SECONDS: Final = 1
#: When to retry a daily limit: SDKs honour no longer times.
DAY_RETRY_SECONDS: Final = 60

LimitKind = Literal["requests", "tokens"]


class Rate(NamedTuple):
    """The state of one limit in its window."""

    kind: LimitKind
    limit: int
    left: int
    #: Until its next window begins.
    reset_ms: int


def rates(limits: Limits, counters: CounterRow, now_ms: int) -> Iterator[Rate]:
    """Yield the state of an owner's limits."""
    minute, day = _minute_left_ms(counters, now_ms), ((counters.day or 0) + 1) * DAY_MS - now_ms
    every: tuple[tuple[LimitKind, int | None, int, int], ...] = (
        ("requests", limits.requests_per_minute, counters.requests, minute),
        ("tokens", limits.tokens_per_minute, counters.tokens, minute),
        ("tokens", limits.tokens_per_day, counters.day_tokens, day),
    )
    for kind, limit, used, reset_ms in every:
        if limit:
            yield Rate(kind, limit, max(0, limit - used), max(0, reset_ms))


def headers(states: Sequence[Rate]) -> dict[str, str]:
    """Return OpenAI's ``x-ratelimit-…`` of each kind, for the limit with the least left."""
    values: dict[str, str] = {}
    for kind in get_args(LimitKind):
        least = min((r for r in states if r.kind == kind), key=lambda r: r.left, default=None)
        if least is not None:
            values[f"x-ratelimit-limit-{kind}"] = str(least.limit)
            values[f"x-ratelimit-remaining-{kind}"] = str(least.left)
            values[f"x-ratelimit-reset-{kind}"] = duration(least.reset_ms)
    return values


def duration(ms: int) -> str:
    """Return a time in the headers' form, such as ``12ms``, ``59s``, ``6m0s`` or ``17h0m5s``."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, seconds = divmod(ceil(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


class LimitHit(NamedTuple):
    """A limit that a request of ``tokens`` would have exceeded, and the counters at that time."""

    owner: LimitOwner
    limits: Limits
    limit: Limit
    counters: CounterRow
    tokens: int

    def rates(self, now_ms: int) -> Iterator[Rate]:
        """Yield the state of its owner's limits."""
        return rates(self.limits, self.counters, now_ms)

    def applies_to(self, limits: Limits, tokens: int, now_ms: int) -> bool:
        """Tell if it applies to another request: as large, under the same limits and minute."""
        is_same = limits == self.limits and tokens >= self.tokens
        return is_same and _minute_left_ms(self.counters, now_ms) > 0

    def error(self, now_ms: int, rates: Mapping[str, str]) -> RateLimitReached:
        """Return the client's error: whose limit, how much, and when to retry."""
        who, most = f"The {self.owner.kind} {self.owner.id}", self.limits.as_dict()[self.limit]
        wait = max(1, ceil(_minute_left_ms(self.counters, now_ms) / 1000))
        if self.limit == "concurrent_requests":
            return RequestsLimited(
                f"{who} may have {most} requests under way at once, and has. Try again when one "
                "has ended.",
                retry_after_seconds=PLACE_SECONDS,
                rates=rates,
            )
        if self.limit == "requests_per_minute":
            return RequestsLimited(
                f"{who} may make {most} requests a minute, and has. Try again in {wait} s.",
                retry_after_seconds=wait,
                rates=rates,
            )
        return self._of_tokens(who, most, wait, rates)

    def _of_tokens(
        self, who: str, most: int, wait: int, rates: Mapping[str, str]
    ) -> RateLimitReached:
        window = "day" if self.limit == "tokens_per_day" else "minute"
        may = f"{who} may use {most} tokens a {window}"
        if self.tokens > most:
            return TokensLimited(
                f"{may}, and this request alone may take {self.tokens}. Send less, or a smaller "
                "`max_tokens`.",
                should_retry=False,
                rates=rates,
            )
        if window == "day":
            return QuotaExhausted(
                f"{may} and has used {self.counters.day_tokens}; this request may take "
                f"{self.tokens}. The next day begins at 00:00 UTC.",
                retry_after_seconds=DAY_RETRY_SECONDS,
                rates=rates,
            )
        return TokensLimited(
            f"{may} and has used {self.counters.tokens}; this request may take {self.tokens}. "
            f"Try again in {wait} s.",
            retry_after_seconds=wait,
            rates=rates,
        )


def _minute_left_ms(counters: CounterRow, now_ms: int) -> int:
    return ((counters.minute or 0) + 1) * MINUTE_MS - now_ms
