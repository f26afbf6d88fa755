"""What many requests hold of their key's and their tenant's limits, whatever becomes of them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferline.accounts.caller import ANYONE, Caller
from inferline.accounts.limits import Limits
from inferline.accounts.rate_counters import DAY_MS, ConditionalUpdate, LimitOwner, RawRow
from inferline.errors import QuotaExhausted, RateLimitReached, Unavailable
from inferline.gateway.submit.rate_limiter import (
    REFUSED_SECONDS,
    RELEASE_PAUSES_SECONDS,
    RateLimiter,
    RequestReservation,
)
from inferline.memory.rate_counters import MemoryRateCounters
from inferline.settings import Settings
from inferline.validation.payload import Payload

NOW_MS = 20_000 * DAY_MS + 3_615_000
FREE = Settings(tenant_requests_per_minute=0, tenant_concurrent_requests=0)
TENANT = LimitOwner("tenant", "acme")
CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class ManualClock:
    """A clock that a test moves; who sleeps, sleeps no time."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class AdvancingClock(ManualClock):
    """A clock that goes on with each look at it."""

    def monotonic(self) -> float:
        self.now += 0.4
        return self.now


class DelayingCounters(MemoryRateCounters):
    """A store whose time stands still and whose writes come in another order than was asked."""

    def __init__(self, waits: list[int] | None = None) -> None:
        super().__init__()
        self.now = NOW_MS
        self.calls = 0
        #: How many of the next calls it does not answer.
        self.silent = 0
        self.peaks: dict[tuple[LimitOwner, str], int] = {}
        self._waits = waits or [0]

    def now_ms(self) -> int:
        return self.now

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        self.calls += 1
        for _ in range(self._waits[self.calls % len(self._waits)]):
            await asyncio.sleep(0)
        if self.silent:
            self.silent -= 1
            raise Unavailable
        done, row = await super().change(owner, change, write_id)
        for name, value in row.items():
            if name != "mark":
                assert value >= 0, (name, row)
                self.peaks[owner, name] = max(value, self.peaks.get((owner, name), 0))
        return done, row

    def row(self, owner: LimitOwner) -> Any:
        return self._rows.get(owner, {})


def caller(key: str = "k1", own: Limits | None = None, all_: Limits | None = None) -> Caller:
    limits = {"limits": own or Limits(), "tenant_limits": all_ or Limits()}
    return Caller(tenant="acme", key_id=key, **limits)


async def reserve(rate_limiter: RateLimiter, who: Caller, tokens: int = 0) -> RequestReservation:
    return await rate_limiter.reserve(who, CHAT, Payload(model="m", output_tokens_max=tokens), b"")


Fate = Literal["settled", "undone", "kept", "dead"]
KEY_LIMITS = Limits(requests_per_minute=5, tokens_per_minute=60, concurrent_requests=3)
ALL_LIMITS = Limits(requests_per_minute=8, tokens_per_day=100, concurrent_requests=5)


@dataclass(frozen=True, slots=True)
class Plan:
    """One request: whose, when, how large, how long it takes in turns, and how it ends."""

    key: str
    tokens: int
    used: int
    begins: int
    turns: int
    fate: Fate


plans = st.builds(
    Plan,
    key=st.sampled_from(["k1", "k2", "k3"]),
    tokens=st.integers(0, 40),
    used=st.integers(0, 40),
    begins=st.integers(0, 30),
    turns=st.integers(0, 20),
    fate=st.sampled_from(["settled", "undone", "kept", "dead"]),
)


@given(st.lists(plans, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=8))
@settings(deadline=None)
def test_however_requests_meet_no_limit_is_passed_and_what_ended_holds_nothing(
    asked: list[Plan], waits: list[int]
) -> None:
    store = DelayingCounters(waits)

    async def run() -> list[Plan]:
        rate_limiter = RateLimiter(store, FREE, AdvancingClock())

        async def one(plan: Plan) -> Plan | None:
            for _ in range(plan.begins):
                await asyncio.sleep(0)
            try:
                reservation = await reserve(
                    rate_limiter, caller(plan.key, KEY_LIMITS, ALL_LIMITS), plan.tokens
                )
            except RateLimitReached:
                return None
            for _ in range(plan.turns):
                await asyncio.sleep(0)
            if plan.fate == "undone":
                reservation.undo()
            elif plan.fate != "dead":
                reservation.settle(min(plan.used, plan.tokens) if plan.fate == "settled" else None)
                reservation.undo()  # The first time counts.
            return plan

        results = await asyncio.gather(*map(one, asked))
        await rate_limiter.flush()
        return [plan for plan in results if plan is not None]

    let_in = asyncio.run(run())

    def charged(plan: Plan) -> int:
        return min(plan.used, plan.tokens) if plan.fate == "settled" else plan.tokens

    for owner in (
        LimitOwner("key", "k1"),
        LimitOwner("key", "k2"),
        LimitOwner("key", "k3"),
        TENANT,
    ):
        own = [
            p for p in let_in if owner in (TENANT, LimitOwner("key", p.key)) and p.fate != "undone"
        ]
        row = store.row(owner)
        assert len(own) == row.get("requests", 0)
        assert sum(map(charged, own)) == row.get("tokens", 0) == row.get("day_tokens", 0)
        assert sum(p.fate == "dead" for p in own) == row.get("open", 0)
        limits = ALL_LIMITS if owner == TENANT else KEY_LIMITS
        for name, limit in (
            ("requests", limits.requests_per_minute),
            ("tokens", limits.tokens_per_minute),
            ("day_tokens", limits.tokens_per_day),
            ("open", limits.concurrent_requests),
        ):
            assert limit is None or store.peaks.get((owner, name), 0) <= limit


@pytest.mark.parametrize(
    ("who", "chosen"),
    [
        (ANYONE, Settings()),
        (caller(), FREE),
        (caller(own=Limits(requests_per_minute=0)), FREE),
        (caller(all_=Limits(requests_per_minute=0, concurrent_requests=0)), Settings()),
    ],
)
async def test_who_has_no_limits_costs_no_call(who: Caller, chosen: Settings) -> None:
    store = DelayingCounters()
    rate_limiter = RateLimiter(store, chosen, ManualClock())

    reservation = await reserve(rate_limiter, who, 10)
    reservation.settle(5)
    await rate_limiter.flush()

    assert (0, {}, 0) == (store.calls, reservation.headers, reservation.open)


@pytest.mark.parametrize(
    ("own", "all_", "calls"),
    [(Limits(tokens_per_day=9), None, 2), (None, ALL_LIMITS, 2), (KEY_LIMITS, ALL_LIMITS, 4)],
)
async def test_each_owner_with_a_limit_costs_two_writes(
    own: Limits | None, all_: Limits | None, calls: int
) -> None:
    store, who = DelayingCounters(), caller("k1", own, all_)
    rate_limiter = RateLimiter(store, FREE, ManualClock())
    await _once(rate_limiter, who)  # Begins the windows.
    store.calls = 0

    await _once(rate_limiter, who)

    assert calls == store.calls


async def _once(rate_limiter: RateLimiter, who: Caller) -> None:
    (await reserve(rate_limiter, who, 2)).settle(1)
    await rate_limiter.flush()


async def test_a_tenant_has_the_settings_limits_unless_it_has_its_own() -> None:
    store = DelayingCounters()
    rate_limiter = RateLimiter(store, Settings(tenant_concurrent_requests=2), ManualClock())

    standard = [await reserve(rate_limiter, caller()) for _ in range(2)]
    with pytest.raises(RateLimitReached, match="The tenant acme may have 2 requests under way"):
        await reserve(rate_limiter, caller())
    own = await reserve(rate_limiter, caller("k2", all_=Limits(concurrent_requests=0)))

    assert [1, 2, 3] == [reservation.open for reservation in (*standard, own)]


async def test_what_a_tenant_refuses_its_key_gets_back() -> None:
    store, limits = DelayingCounters(), Limits(requests_per_minute=1)
    rate_limiter = RateLimiter(store, FREE, ManualClock())
    await reserve(rate_limiter, caller("k2", all_=limits))

    with pytest.raises(RateLimitReached, match="The tenant acme"):
        await reserve(rate_limiter, caller("k1", KEY_LIMITS, limits), 10)
    await rate_limiter.flush()

    row = store.row(LimitOwner("key", "k1"))
    assert (0, 0, 0, 0) == (row["requests"], row["tokens"], row["day_tokens"], row["open"])


async def test_what_a_silent_store_left_half_done_is_given_back() -> None:
    store = DelayingCounters()
    rate_limiter = RateLimiter(store, FREE, ManualClock())
    who = caller("k1", KEY_LIMITS, ALL_LIMITS)
    await _once(rate_limiter, who)
    store.silent, calls = 0, store.calls

    async def fail_second(*fields: Any) -> Any:
        store.silent = int(store.calls == calls + 1)
        return await original(*fields)

    original, store.change = store.change, fail_second  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await reserve(rate_limiter, who, 10)
    await rate_limiter.flush()

    assert 0 == store.row(LimitOwner("key", "k1"))["open"]
    assert 1 == store.row(LimitOwner("key", "k1"))["requests"]


async def test_what_cant_be_given_back_is_tried_again_and_at_last_stays_charged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = DelayingCounters(), ManualClock()
    rate_limiter = RateLimiter(store, FREE, clock)
    first, second = [await reserve(rate_limiter, caller("k1", KEY_LIMITS), 10) for _ in range(2)]

    store.silent = 2
    first.settle(4)
    await rate_limiter.flush()
    after_first = dict(store.row(LimitOwner("key", "k1")))
    store.silent = 1 + len(RELEASE_PAUSES_SECONDS)
    with caplog.at_level(logging.WARNING):
        second.settle(4)
        await rate_limiter.flush()

    assert (14, 1) == (after_first["tokens"], after_first["open"])
    assert (14, 1) == tuple(store.row(LimitOwner("key", "k1"))[name] for name in ("tokens", "open"))
    assert [*RELEASE_PAUSES_SECONDS[:2], *RELEASE_PAUSES_SECONDS] == clock.slept
    assert "stays charged" in caplog.text


async def test_a_refusal_holds_for_a_second_without_a_call_and_for_no_less_than_it_refused() -> (
    None
):
    store, clock = DelayingCounters(), ManualClock()
    rate_limiter, who = RateLimiter(store, FREE, clock), caller("k1", Limits(tokens_per_minute=50))
    await reserve(rate_limiter, who, 40)
    with pytest.raises(RateLimitReached):
        await reserve(rate_limiter, who, 20)
    store.calls = 0

    with pytest.raises(RateLimitReached):
        await reserve(rate_limiter, who, 20)
    asked_at_once = store.calls
    smaller = await reserve(rate_limiter, who, 5)
    clock.now += REFUSED_SECONDS
    with pytest.raises(RateLimitReached):
        await reserve(rate_limiter, who, 20)

    assert 0 == asked_at_once
    assert "5" == smaller.headers["x-ratelimit-remaining-tokens"]
    assert 2 == store.calls


async def test_a_refusal_ends_when_something_is_given_back() -> None:
    rate_limiter, who = (
        RateLimiter(DelayingCounters(), FREE, ManualClock()),
        caller("k1", Limits(concurrent_requests=1)),
    )
    reservation = await reserve(rate_limiter, who)
    with pytest.raises(RateLimitReached):
        await reserve(rate_limiter, who)

    reservation.settle(None)
    await rate_limiter.flush()

    await reserve(rate_limiter, who)


async def test_a_refusal_ends_with_its_minute() -> None:
    store = DelayingCounters()
    rate_limiter, who = (
        RateLimiter(store, FREE, ManualClock()),
        caller("k1", Limits(requests_per_minute=1)),
    )
    await reserve(rate_limiter, who)
    with pytest.raises(RateLimitReached):
        await reserve(rate_limiter, who)

    store.now += 45_000

    assert (await reserve(rate_limiter, who)).headers["x-ratelimit-remaining-requests"] == "0"


async def test_headers_tell_of_the_limit_that_is_nearest() -> None:
    own = Limits(requests_per_minute=100, tokens_per_minute=1000)
    all_ = Limits(requests_per_minute=50, tokens_per_day=100_000)
    rate_limiter = RateLimiter(DelayingCounters(), FREE, ManualClock())

    reservation = await reserve(rate_limiter, caller("k1", own, all_), 300)

    assert {
        "x-ratelimit-limit-requests": "50",
        "x-ratelimit-remaining-requests": "49",
        "x-ratelimit-reset-requests": "45s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "700",
        "x-ratelimit-reset-tokens": "45s",
    } == reservation.headers


@pytest.mark.parametrize(
    ("limits", "tokens", "expected"),
    [
        (Limits(requests_per_minute=1), 1, ("requests", "rate_limit_exceeded", "45", None)),
        (Limits(tokens_per_minute=10), 9, ("tokens", "rate_limit_exceeded", "45", None)),
        (Limits(concurrent_requests=1), 1, ("requests", "rate_limit_exceeded", "1", None)),
        (Limits(tokens_per_day=10), 9, ("insufficient_quota", "insufficient_quota", "60", "false")),
    ],
)
async def test_a_refusal_says_which_limit_of_whom_and_when_to_come_again(
    limits: Limits, tokens: int, expected: tuple[Any, ...]
) -> None:
    rate_limiter, who = RateLimiter(DelayingCounters(), FREE, ManualClock()), caller("k1", limits)
    await reserve(rate_limiter, who, tokens)

    with pytest.raises(RateLimitReached) as refused:
        await reserve(rate_limiter, who, tokens)

    error = refused.value
    headers = error.headers()
    body = error.body()["error"]
    actual = body["type"], body["code"], headers["retry-after"], headers.get("x-should-retry")
    assert expected == actual
    assert 429 == error.status
    assert body["message"].startswith("The key k1 may ")


@pytest.mark.parametrize("limits", [Limits(tokens_per_minute=10), Limits(tokens_per_day=10)])
async def test_what_can_never_fit_is_not_to_be_tried_again(limits: Limits) -> None:
    rate_limiter = RateLimiter(DelayingCounters(), FREE, ManualClock())

    with pytest.raises(RateLimitReached, match="alone may take 11") as refused:
        await reserve(rate_limiter, caller("k1", limits), 11)

    assert "false" == refused.value.headers()["x-should-retry"]
    assert "retry-after" in refused.value.headers()
    assert not isinstance(refused.value, QuotaExhausted)


async def test_the_day_ends_at_midnight_of_utc() -> None:
    store = DelayingCounters()
    rate_limiter, who = (
        RateLimiter(store, FREE, ManualClock()),
        caller("k1", Limits(tokens_per_day=10)),
    )
    first = await reserve(rate_limiter, who, 10)

    store.now = 20_001 * DAY_MS
    again = await reserve(rate_limiter, who, 10)

    assert "22h59m45s" == first.headers["x-ratelimit-reset-tokens"]
    assert "24h0m0s" == again.headers["x-ratelimit-reset-tokens"]
