"""The next step after a fault: end the task, or hand it back for another attempt."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from inferline.errors import BackendFailed, ProviderLost
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
from inferline_provider.pauses import PAUSES, Pauses


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
    pauses: Pauses = PAUSES


def next_step(fault: Fault, circumstances: Circumstances) -> Finish | HandBack:
    """Return the next step. Two answers must not mix, and no client must wait in vain."""
    if circumstances.stuck or isinstance(fault, CannotContinue):
        return Finish(failure(ProviderLost()))
    # Another provider tries first, at once.
    is_passed_on = circumstances.peers > 0 and circumstances.attempt == 1
    if isinstance(fault, Busy):
        return _after_busy(fault, circumstances)
    if isinstance(fault, CannotContinueHere):
        if circumstances.others > 0:
            return HandBack(counts=False, unfit=circumstances.unfit)
        return Finish(failure(ProviderLost()))
    is_refused = isinstance(fault, KeyRefused) and (
        circumstances.has_good_key or fault.answer is not None
    )
    if isinstance(fault, KeyRefused) and is_refused and not is_passed_on:
        return _finish(fault.answer, circumstances, helps=False)
    if isinstance(fault, BadAnswer) and (fault.is_repeated or fault.is_final) and not is_passed_on:
        return _finish(fault.answer, circumstances, helps=False)
    if circumstances.attempts_left > 0:
        is_urgent = is_passed_on or isinstance(fault, KeyRefused)
        return HandBack(
            counts=True,
            delay_seconds=0 if is_urgent else random.randint(*circumstances.pauses.retry_seconds),
        )
    return _finish(fault.answer if isinstance(fault, BadAnswer) else None, circumstances)


def _after_busy(fault: Busy, circumstances: Circumstances) -> Finish | HandBack:
    """Return the next step when busy: another provider tries, or the task waits for a while."""
    if circumstances.refused_seconds is None and circumstances.attempt <= circumstances.peers:
        return HandBack(counts=False)
    if fault.is_final:
        return _finish(fault.answer, circumstances)
    left = circumstances.busy_seconds_max - (circumstances.refused_seconds or 0.0)
    wanted = fault.retry_after_seconds
    if left <= 0 or (wanted or 0) > left:
        return _finish(fault.answer, circumstances)
    pause = random.randint(*circumstances.pauses.busy_seconds) if wanted is None else wanted
    return HandBack(counts=False, delay_seconds=max(1, min(pause, math.ceil(left))))


def _finish(
    answer: BackendAnswer | None, circumstances: Circumstances, *, helps: bool = True
) -> Finish:
    """End the task with the backend's own answer, if any; `helps`: the client may retry."""
    if circumstances.begun:
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
