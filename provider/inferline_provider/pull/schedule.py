"""Schedule of polls: which queue a provider polls next, since one SQS call polls one queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from inferline.background import Backoff
from inferline.names import base_name
from inferline.tasks.queue import RECEIVE_MAX
from inferline.tasks.task import TIERS, Tier

#: Each time after so many turns, the queue that waited longest has one, whatever its tier.
FAIR_TURNS: Final = 10
#: Receives under way at one queue, besides the long poll there.
RECEIVES_MAX: Final = 8
#: A long poll that takes longer waits because the queue is empty, seconds.
PROMPT_SECONDS: Final = 0.1
#: The first and the longest pause after a receive that failed; it doubles in between, seconds.
PAUSES: Final = Backoff(1.0, 30.0)


@dataclass(slots=True, eq=False)
class QueueState:
    """The state of one queue, as last seen."""

    url: str
    #: The model's name in the registry.
    model: str
    tier: Tier
    #: Whether its last receive brought messages. Otherwise it is cold.
    hot: bool = False
    #: Number of receives in a row that brought their full limit: there is more.
    full: int = 0
    #: Limit of the long poll at it, and when that began; 0 without one.
    waiting: int = 0
    waiting_since: float = 0.0
    #: Number of short polls under way.
    short_polls: int = 0
    #: When the last receive ended; infinite before the first.
    polled_at: float = inf
    #: Number of its last turn.
    turn: int = 0
    #: When the oldest message of its last receive was sent, milliseconds since 1970.
    oldest_ms: int = 0
    failures: int = 0
    #: Not to be polled before this moment, seconds of the caller's clock.
    paused_until: float = 0.0

    def is_unwatched(self, now: float) -> bool:
        """Say whether nobody has polled it for a while, so that it may have messages."""
        is_polled = self.waiting or self.short_polls
        return not is_polled and now > max(self.polled_at, self.paused_until) + PROMPT_SECONDS


@dataclass(frozen=True, slots=True)
class PendingReceive:
    """A receive that is under way."""

    state: QueueState
    limit: int
    #: Whether it is a long poll. A short one has its slots already.
    waits: bool


class PollSchedule:
    """
    The states of all queues, and the order of polls. It calls neither SQS nor a clock.

    A queue that is cold, or that alone is hot, has one long poll: it returns at once when there are
    messages. Several hot queues are polled in turns, without waiting. A queue that keeps bringing
    the full limit has one more poll at once each time.

    While no task could begin, no new long poll does, and messages may come to a cold queue unseen.
    So before work of a lower tier, it has its turn as if it were hot.
    """

    def __init__(self, is_open: Callable[[str], bool] = lambda model: True) -> None:
        """Leave the queues of a model alone unless `is_open` says that its tasks may begin."""
        self._is_open = is_open
        self._states: dict[str, QueueState] = {}
        self._turn = 0
        self._loaded = ""

    def arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        """Poll these queues, by model and tier, from now on; none of batches, which are apart."""
        known = self._states
        self._states = {
            url: known.get(url) or QueueState(url, model, tier)
            for model, tiers in queues.items()
            for tier, url in tiers.items()
            if tier in TIERS
        }

    def cold(self, now: float) -> list[QueueState]:
        """Return the queues that need a long poll."""
        turns = self._turns(now)
        alone = len(turns) <= 1
        return [
            state
            for state in self._ready(now)
            if not state.waiting and (alone or state not in turns)
        ]

    def next_hot(
        self, now: float, free: int, *, lowest: int | None = None
    ) -> tuple[QueueState, int] | None:
        """
        Return the queue whose turn is next, and the limit for its receive; None for no turn.

        `free` is the number of free slots, `lowest` that for tasks of the lowest tier, if another.
        """
        lowest = free if lowest is None else lowest
        turns = self._turns(now)
        alone = len(turns) <= 1
        rooms = {
            state: self._room(state, now, lowest if state.tier == TIERS[-1] else free, alone=alone)
            for state in turns
            if state.paused_until <= now
        }
        hot = [state for state, room in rooms.items() if room > 0]
        if not hot:
            return None
        self._turn += 1
        fair = self._turn % FAIR_TURNS == 0
        state = min(hot, key=(lambda state: state.turn) if fair else self._rank)
        state.turn = self._turn
        return state, min(RECEIVE_MAX, rooms[state])

    def begin(self, state: QueueState, limit: int, now: float, *, waits: bool) -> PendingReceive:
        """Note that a receive begins."""
        if waits:
            state.waiting, state.waiting_since = limit, now
        else:
            state.short_polls += 1
        return PendingReceive(state, limit, waits)

    def received(self, receive: PendingReceive, sent_ms: Iterable[int], now: float) -> None:
        """Note the end of a receive, and when each of its messages was sent."""
        times, state = list(sent_ms), self._back(receive, now)
        state.failures = 0
        state.hot = bool(times)
        state.full = state.full + 1 if len(times) == receive.limit else 0
        state.oldest_ms = min(times, default=0)

    def failed(self, receive: PendingReceive, now: float) -> None:
        """Note that a receive failed: leave the queue alone for a while."""
        state = self._back(receive, now)
        if state.paused_until > now:
            return
        state.paused_until = now + PAUSES.seconds(state.failures)
        state.failures += 1

    def pause(self, state: QueueState, until: float) -> None:
        """Leave a queue alone until a moment: its messages were given back."""
        state.hot, state.full = False, 0
        state.paused_until = max(state.paused_until, until)

    def pause_seconds(self, now: float) -> float:
        """Return the time until the first pause of a queue ends; infinite if none is paused."""
        return min(
            (
                state.paused_until - now
                for state in self._states.values()
                if state.paused_until > now
            ),
            default=inf,
        )

    def has_better(self, tier: Tier) -> bool:
        """Return True if a queue of a better tier brought messages at its last receive."""
        rank = TIERS.index(tier)
        return any(state.hot and TIERS.index(state.tier) < rank for state in self._states.values())

    def note_model(self, model: str) -> None:
        """Note the model of the last task: the backend has it loaded."""
        self._loaded = model

    def _ready(self, now: float) -> list[QueueState]:
        states = self._states.values()
        return [
            state for state in states if state.paused_until <= now and self._is_open(state.model)
        ]

    def _turns(self, now: float) -> list[QueueState]:
        """Return the queues that have turns: the hot ones, and unwatched ones of higher tiers."""
        states = [state for state in self._states.values() if self._is_open(state.model)]
        lowest = max((TIERS.index(state.tier) for state in states if state.hot), default=0)
        return [
            state
            for state in states
            if state.hot or (TIERS.index(state.tier) < lowest and state.is_unwatched(now))
        ]

    def _room(self, state: QueueState, now: float, free: int, *, alone: bool) -> int:
        """Return the limit for one more receive at a queue; 0 or less for none."""
        polls_max = min(state.full, RECEIVES_MAX)
        if not alone:
            return free if state.short_polls < max(1, polls_max) else 0
        is_prompt = now < state.waiting_since + PROMPT_SECONDS
        return free - state.waiting if is_prompt and state.short_polls < polls_max else 0

    def _back(self, receive: PendingReceive, now: float) -> QueueState:
        receive.state.polled_at = now
        if receive.waits:
            receive.state.waiting = 0
        else:
            receive.state.short_polls -= 1
        return receive.state

    def _rank(self, state: QueueState) -> tuple[int, bool, int, int]:
        tier = TIERS.index(state.tier)
        return tier, base_name(state.model) != self._loaded, state.oldest_ms, state.turn
