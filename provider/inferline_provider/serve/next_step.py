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
    Give the task back; others may look at it after `hide_seconds`. `spared`: the attempt does not
    count. `unfit`: those who can't go on with its answer, who need not look again.
    """

    spared: bool
    hide_seconds: int
    unfit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What else decides what follows a fault."""

    attempt: int = 1
    attempts_left: int = 0
    #: Whether a reader may have what was written; then only a continuation may follow,
    begun: bool = False
    #: and whether there can be none.
    stuck: bool = False
    #: How many other providers serve the model.
    peers: int = 0
    #: For how long the backend has refused the task, seconds; None when it does so first.
    refused_seconds: float | None = None
    #: For how long it may.
    busy_seconds_max: float = 30.0
    #: Whether others were answered with the provider's key of late.
    has_good_key: bool = False
    #: Those who can't go on with what was begun, this provider among them, and how many others may.
    unfit: frozenset[str] = frozenset()
    others: int = 0


def next_step(fault: Fault, seen: Circumstances) -> Finish | HandBack:
    """Say what follows a fault. Two answers must not mix, and no client must wait for nothing."""
    if seen.stuck or isinstance(fault, CannotContinue):
        return Finish(failure(ProviderLost()))
    # Another provider is asked first, at once.
    is_passed_on = seen.peers > 0 and seen.attempt == 1
    if isinstance(fault, Busy):
        return _after_busy(fault, seen)
    if isinstance(fault, CannotContinueHere):
        if seen.others > 0:
            return HandBack(True, 0, seen.unfit)
        return Finish(failure(ProviderLost()))
    is_refused = isinstance(fault, KeyRefused) and (seen.has_good_key or fault.told is not None)
    if isinstance(fault, KeyRefused) and is_refused and not is_passed_on:
        return _told(fault.told, seen, helps=False)
    if isinstance(fault, BadAnswer) and (fault.is_repeated or fault.is_final) and not is_passed_on:
        return _told(fault.answer, seen, helps=False)
    if seen.attempts_left > 0:
        is_urgent = is_passed_on or isinstance(fault, KeyRefused)
        return HandBack(False, 0 if is_urgent else random.randint(*RETRY_SECONDS))
    return _told(fault.answer if isinstance(fault, BadAnswer) else None, seen)


def _after_busy(fault: Busy, seen: Circumstances) -> Finish | HandBack:
    """Another provider may have room at once; else the task waits, but not for ever."""
    if seen.refused_seconds is None and seen.attempt <= seen.peers:
        return HandBack(True, 0)
    if fault.is_final:
        return _told(fault.answer, seen)
    left = seen.busy_seconds_max - (seen.refused_seconds or 0.0)
    asked = fault.retry_after_seconds
    if left <= 0 or (asked or 0) > left:
        return _told(fault.answer, seen)
    pause = random.randint(*BUSY_SECONDS) if asked is None else asked
    return HandBack(True, max(1, min(pause, math.ceil(left))))


def _told(answer: BackendAnswer | None, seen: Circumstances, *, helps: bool = True) -> Finish:
    """End the task with the backend's own answer, where there is one; ``helps``: repeating may."""
    if seen.begun:
        return Finish(failure(ProviderLost()))
    is_later = answer is not None and RETRY_AFTER in answer.headers
    headers = {} if helps or is_later else {SHOULD_RETRY: "false"}
    if answer is None:
        return Finish(replace(failure(BackendFailed()), headers=headers))
    headers = {**headers, **answer.headers}
    told = AttemptOutcome(status=answer.status, content_type=answer.content_type, headers=headers)
    return Finish(told, answer.body)
