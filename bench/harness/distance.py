"""How late AWS answers: times drawn so that they have AWS's percentiles."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Mapping
from statistics import NormalDist
from typing import Final

#: Seconds, by the share of calls that take no longer. From the call of SendMessage until a poll
#: that waits has the message: as measured by others from a sender to a Lambda function.
SEND_TO_RECEIVE: Final = {0.1: 0.0137, 0.5: 0.016, 0.9: 0.034, 0.99: 0.105}
#: A call to DynamoDB: "single-digit milliseconds", and what AWS says no more of is assumed.
DYNAMODB: Final = {0.5: 0.004, 0.9: 0.008, 0.99: 0.015}
#: Assumed, since AWS tells nothing of them: the answer to SendMessage, a receive of what waits in
#: the queue, a deletion, a change of visibility.
SQS: Final = {0.5: 0.008, 0.9: 0.016, 0.99: 0.040}

#: Nothing is drawn beyond these quantiles of the normal distribution: one call in a thousand.
Z_MAX: Final = 3.09
_NORMAL: Final = NormalDist()


class Distance:
    """
    Draws times that have the given percentiles.

    Between two of them, and beyond the outer ones, the logarithm of the time goes straight with
    the normal distribution's quantile: with two percentiles it is a lognormal distribution.
    """

    def __init__(self, percentiles: Mapping[float, float], chance: random.Random) -> None:
        shares = sorted(percentiles)
        self._z = [_NORMAL.inv_cdf(share) for share in shares]
        self._log = [math.log(percentiles[share]) for share in shares]
        self._chance = chance

    def draw(self) -> float:
        """Return the seconds of one call."""
        return self.at(max(-Z_MAX, min(Z_MAX, self._chance.gauss(0.0, 1.0))))

    def at(self, z: float) -> float:
        """Return the seconds at a quantile of the normal distribution."""
        left = max(0, min(len(self._z) - 2, bisect(self._z, z) - 1))
        z0, z1 = self._z[left : left + 2]
        log0, log1 = self._log[left : left + 2]
        return math.exp(log0 + (log1 - log0) * (z - z0) / (z1 - z0))
