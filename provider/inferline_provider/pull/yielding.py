"""How long this provider leaves a message to faster ones before it takes it: its handicap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from inferline.fleet.enrolment import Faster
from inferline.names import base_name

#: For the best of the others being twice as fast, and again for each time twice, seconds: a few
#: receives, so that a message that is given back reaches the faster ones that wait for it, and
#: that the less slow have had it before the slower do.
DOUBLING_SECONDS: Final = 0.12
HANDICAP_SECONDS_MAX: Final = 0.3
#: No more than this share of what a task gains at the best of the others.
GAIN_SHARE: Final = 1 / 16
#: In less, nobody is given a message.
HANDICAP_SECONDS_MIN: Final = 0.01
#: For so many handicaps after the faster ones were found busy, everything is taken.
EAGER_HANDICAPS: Final = 8
#: While they prove idle a queue is left alone longer each time: until those that stand back and
#: are no slower ask this often in a handicap, all together,
ASKS_IN_HANDICAP: Final = 3
#: and never longer than this, seconds. What is older than this is taken in any case.
REST_SECONDS_MAX: Final = 1.0


@dataclass(slots=True)
class YieldPolicy:
    """
    What one model's tasks gain at faster providers, and whether these were idle lately.

    SQS gives a message to any of the providers that wait. So one that waited, and gets it sooner
    than a handicap after it was sent, gives it back. Then it leaves the queue alone: if the message
    is there when it asks again, the faster ones are busy.
    """

    #: 0: this provider is as fast as any.
    seconds: float = 0.0
    #: For how long a queue is left alone at the most.
    rest_seconds_max: float = 0.0
    _rest: float = 0.0
    _eager_until_ms: float = 0.0
    #: When the messages were sent that were given back last; that is enough to know them by.
    _given_ms: frozenset[int] = frozenset()

    def judge(self, sent_ms: Sequence[int], asked_ms: int, now_ms: int) -> float:
        """
        For how long to leave a queue alone, having given back what it brought; 0: take all of it.

        ``sent_ms`` tells when each message was sent, ``asked_ms`` when the queue was asked for
        them; all by the store's clock. Where that is wrong, messages are given back in vain, but
        none twice, or none is.
        """
        if not self.seconds or not sent_ms:
            return 0.0
        oldest_ms = min(sent_ms)
        has_lain = oldest_ms + self.seconds * 1000 <= asked_ms
        if has_lain or not self._given_ms.isdisjoint(sent_ms):
            self._rest = 0.0
            self._given_ms = frozenset()
            self._eager_until_ms = now_ms + EAGER_HANDICAPS * self.seconds * 1000
            return 0.0
        age = (now_ms - oldest_ms) / 1000
        if now_ms < self._eager_until_ms or age >= REST_SECONDS_MAX:
            return 0.0
        # What was given back before this has not come again: others have taken it.
        if self._given_ms:
            self._rest = min(self.rest_seconds_max, 2 * (self._rest or self.seconds / 2))
        self._given_ms = frozenset(sent_ms)
        return max(self._rest, self.seconds - max(0.0, age), HANDICAP_SECONDS_MIN)


class YieldPolicies:
    """The handicaps of this provider, by model, as the registry calls it: peers differ."""

    def __init__(self) -> None:
        self._by_model: defaultdict[str, YieldPolicy] = defaultdict(YieldPolicy)

    def __getitem__(self, model: str) -> YieldPolicy:
        """That of a model: none, until it is known that others are faster."""
        return self._by_model[model]

    def know(self, faster: Mapping[str, Faster], task_seconds: Callable[[str], float]) -> None:
        """Take note of who is faster, and of how long a task of each model takes here."""
        for model in self._by_model.keys() - faster.keys():
            del self._by_model[model]
        for model, those in faster.items():
            handicap = self._by_model[model]
            handicap.seconds = _seconds(those.times, task_seconds(base_name(model)))
            share = max(1.0, those.fellows / ASKS_IN_HANDICAP)
            handicap.rest_seconds_max = min(REST_SECONDS_MAX, handicap.seconds * share)


def _seconds(times: float, task_seconds: float) -> float:
    gain = task_seconds * (1 - 1 / times)
    seconds = min(DOUBLING_SECONDS * log2(times), HANDICAP_SECONDS_MAX, GAIN_SHARE * gain)
    return seconds if seconds >= HANDICAP_SECONDS_MIN else 0.0
