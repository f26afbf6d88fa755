"""The next step after a fault: end the task, or hand it back for another attempt."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Final

from inferline.errors import (
    BackendFailed,
    ProviderLost,
)
from inferline.tasks.store import AttemptOutcome
from inferline_provider.backend.classification import (
    RETRY_AFTER,
    Finish,
    failure,
)
from inferline_provider.faults import (
    SHOULD_RETRY,
    BackendAnswer,
    BadAnswer,
    Busy,
    CannotContinue,
    CannotContinueHere,
    Fault,
    KeyRefused,
)

#: How long a task waits after a busy backend that did not say for how long, seconds.
BUSY_SECONDS: Final = (1, 5)
#: How long a task waits after a failed attempt, seconds.
RETRY_SECONDS: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class HandBack:
    """
    The step of giving a task back: any provider may claim it after `delay_seconds`.

    `counts`: the attempt is one of those that the task may have. `unfit` are the providers that
    can't go on with its answer.
    """

    counts: bool
    delay_seconds: int = 0
    unfit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The circumstances of a fault, which decide on the next step as well."""

    attempt: int = 1
    attempts_left: int = 0
    #: Whether a reader may have a part of the answer; then only a continuation may follow.
    begun: bool = False
    #: Whether a reader may have a part, and there can be no continuation.
    stuck: bool = False
    #: Number of other providers that serve the model.
    peers: int = 0
    #: Time since the backend first refused the task, seconds; None when it does so now.
    refused_seconds: float | None = None
    #: The longest time that it may.
    busy_seconds_max: float = 30.0
    #: Whether other tasks were answered with the provider's key lately.
    has_good_key: bool = False
    #: Providers that can't go on with the answer, this one among them.
    unfit: frozenset[str] = frozenset()
    #: Number of other providers that may.
    others: int = 0


def next_step(fault: Fault, seen: Circumstances) -> Finish | HandBack:
    """Return the next step. Two answers must not mix, and no client must wait in vain."""
    if seen.stuck or isinstance(fault, CannotContinue):
        return Finish(failure(ProviderLost()))
    # Another provider tries first, at once.
    is_passed_on = seen.peers > 0 and seen.attempt == 1
    if isinstance(fault, Busy):
        return _after_busy(fault, seen)
    if isinstance(fault, CannotContinueHere):
        if seen.others > 0:
            return HandBack(counts=False, unfit=seen.unfit)
        return Finish(failure(ProviderLost()))
    is_refused = isinstance(fault, KeyRefused) and (seen.has_good_key or fault.answer is not None)
    if isinstance(fault, KeyRefused) and is_refused and not is_passed_on:
        return _finish(fault.answer, seen, helps=False)
    if isinstance(fault, BadAnswer) and (fault.is_repeated or fault.is_final) and not is_passed_on:
        return _finish(fault.answer, seen, helps=False)
    if seen.attempts_left > 0:
        is_urgent = is_passed_on or isinstance(fault, KeyRefused)
        return HandBack(
            counts=True, delay_seconds=0 if is_urgent else random.randint(*RETRY_SECONDS)
        )
    return _finish(fault.answer if isinstance(fault, BadAnswer) else None, seen)


def _after_busy(fault: Busy, seen: Circumstances) -> Finish | HandBack:
    """Return the next step when busy: another provider tries, or the task waits for a while."""
    if seen.refused_seconds is None and seen.attempt <= seen.peers:
        return HandBack(counts=False)
    if fault.is_final:
        return _finish(fault.answer, seen)
    left = seen.busy_seconds_max - (seen.refused_seconds or 0.0)
    asked = fault.retry_after_seconds
    if left <= 0 or (asked or 0) > left:
        return _finish(fault.answer, seen)
    pause = random.randint(*BUSY_SECONDS) if asked is None else asked
    return HandBack(counts=False, delay_seconds=max(1, min(pause, math.ceil(left))))


def _finish(answer: BackendAnswer | None, seen: Circumstances, *, helps: bool = True) -> Finish:
    """End the task with the backend's own answer, if any; `helps`: the client may retry."""
    if seen.begun:
        return Finish(failure(ProviderLost()))
    is_later = answer is not None and RETRY_AFTER in answer.headers
    headers = {} if helps or is_later else {SHOULD_RETRY: "false"}
    if answer is None:
        return Finish(replace(failure(BackendFailed()), headers=headers))
    headers = {**headers, **answer.headers}
    outcome = AttemptOutcome(
        status=answer.status, content_type=answer.content_type, headers=headers
    )
    return Finish(outcome, answer.body)
