"""Yielding: a slow provider leaves a new message to faster ones for a short time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from inferline.fleet.enrolment import Faster
from inferline.names import base_name

#: Yield time for each doubling of speed up to the fastest, seconds: a few receives, so that a
#: message that goes back reaches faster providers that wait, and less slow ones before slower ones.
DOUBLING_SECONDS: Final = 0.12
YIELD_SECONDS_MAX: Final = 0.3
#: No more than this share of what a task gains at the best of the others.
GAIN_SHARE: Final = 1 / 16
#: A shorter yield is none: no message reaches anybody in that time.
YIELD_SECONDS_MIN: Final = 0.01
#: After the faster ones proved busy, everything is taken for so many yield times.
EAGER_YIELDS: Final = 8
#: While they prove idle a queue is left alone longer each time, until all yielding providers that
#: are no slower poll it so often in one yield time.
POLLS_IN_YIELD: Final = 3
#: The longest time that a queue is left alone, seconds. An older message is taken in any case.
REST_SECONDS_MAX: Final = 1.0


@dataclass(slots=True)
class YieldPolicy:
    """
    The yield time for one model's tasks, and whether faster providers were idle lately.

    SQS gives a message to any consumer that waits. So a provider that gets one within its yield
    time after it was sent gives it back. Then it leaves the queue alone: if the message is still
    there at the next poll, the faster ones are busy.
    """

    #: The yield time; 0: no provider is faster.
    seconds: float = 0.0
    #: The longest time that a queue is left alone.
    rest_seconds_max: float = 0.0
    _rest: float = 0.0
    _eager_until_ms: float = 0.0
    #: When each message that was given back last was sent, which identifies it well enough.
    _given_ms: frozenset[int] = frozenset()

    def yield_seconds(self, sent_ms: Sequence[int], polled_ms: int, now_ms: int) -> float:
        """
        Return how many seconds to skip a queue after returning its messages; 0 means claim them.

        `sent_ms` says when each message was sent, `polled_ms` when the receive began, by the
        store's clock. Where that is wrong, messages go back in vain, but none twice, or none does.
        """
        if not self.seconds or not sent_ms:
            return 0.0
        oldest_ms = min(sent_ms)
        has_lain = oldest_ms + self.seconds * 1000 <= polled_ms
        if has_lain or not self._given_ms.isdisjoint(sent_ms):
            self._rest = 0.0
            self._given_ms = frozenset()
            self._eager_until_ms = now_ms + EAGER_YIELDS * self.seconds * 1000
            return 0.0
        age = (now_ms - oldest_ms) / 1000
        if now_ms < self._eager_until_ms or age >= REST_SECONDS_MAX:
            return 0.0
        # The messages given back before this did not come again: others have taken them.
        if self._given_ms:
            self._rest = min(self.rest_seconds_max, 2 * (self._rest or self.seconds / 2))
        self._given_ms = frozenset(sent_ms)
        return max(self._rest, self.seconds - max(0.0, age), YIELD_SECONDS_MIN)


class YieldPolicies:
    """The yield policies of this provider, by the model's name in the registry."""

    def __init__(self) -> None:
        self._by_model: defaultdict[str, YieldPolicy] = defaultdict(YieldPolicy)

    def __getitem__(self, model: str) -> YieldPolicy:
        """Return that of a model, which yields nothing until others are known to be faster."""
        return self._by_model[model]

    def update(self, faster: Mapping[str, Faster], task_seconds: Callable[[str], float]) -> None:
        """Set which providers are faster, and how long a task of each model takes here."""
        for model in self._by_model.keys() - faster.keys():
            del self._by_model[model]
        for model, group in faster.items():
            policy = self._by_model[model]
            policy.seconds = _seconds(group.times, task_seconds(base_name(model)))
            share = max(1.0, group.fellows / POLLS_IN_YIELD)
            policy.rest_seconds_max = min(REST_SECONDS_MAX, policy.seconds * share)


def _seconds(times: float, task_seconds: float) -> float:
    gain = task_seconds * (1 - 1 / times)
    seconds = min(DOUBLING_SECONDS * log2(times), YIELD_SECONDS_MAX, GAIN_SHARE * gain)
    return seconds if seconds >= YIELD_SECONDS_MIN else 0.0
