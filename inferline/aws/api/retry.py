"""Retries of failed calls: the standard mode of botocore."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError
from botocore.retries.quota import RetryQuota
from botocore.retries.standard import (
    MaxAttemptsChecker,
    RetryContext,
    RetryQuotaChecker,
    ThrottledRetryableChecker,
    TransientRetryableChecker,
)

from inferline.background import Backoff

#: The longest pause before the first retry: after a lost connection short, after a throttled call
#: long. These are standard mode's figures as revised in 2026, which botocore keeps behind a switch.
_TRANSIENT: Final = Backoff(0.05, 20.0)
_THROTTLED: Final = Backoff(1.0, 20.0)


class Retries:
    """
    The retries of one service.

    They draw on a budget that only successes refill, so that an outage causes no retry storm.
    """

    def __init__(self, max_attempts: int, jitter: Callable[[], float] = random.random) -> None:
        self._enough = MaxAttemptsChecker(max_attempts)
        self._transient = TransientRetryableChecker()
        self._throttled = ThrottledRetryableChecker()
        self._quota = RetryQuotaChecker(RetryQuota())
        self._jitter = jitter

    def delay(
        self, error: ClientError | BotoCoreError, attempt: int, spent: dict[str, Any]
    ) -> float | None:
        """
        Return the seconds until the next attempt, or None when ``error`` is final.

        ``attempt`` counts from 1; ``spent`` is a dict of the call's own that notes its retries.
        """
        context = _context(error, attempt, spent)
        throttled = self._throttled.is_retryable(context)
        if not (throttled or self._transient.is_retryable(context)):
            return None
        if not self._enough.is_retryable(context):
            return None
        if not self._quota.acquire_retry_quota(context):
            return None
        backoff = _THROTTLED if throttled else _TRANSIENT
        return self._jitter() * backoff.seconds(attempt - 1)

    def succeeded(self, spent: dict[str, Any]) -> None:
        """Return to the budget what the call's retries took from it."""
        self._quota.release_retry_quota(spent, _SUCCESS)


def _context(error: ClientError | BotoCoreError, attempt: int, spent: dict[str, Any]) -> Any:
    if isinstance(error, ClientError):
        metadata = error.response["ResponseMetadata"]
        http = AWSResponse(None, metadata["HTTPStatusCode"], metadata["HTTPHeaders"], None)
        return RetryContext(
            attempt, parsed_response=error.response, http_response=http, request_context=spent
        )
    return RetryContext(attempt, caught_exception=error, request_context=spent)


_SUCCESS: Final = AWSResponse(None, 200, {}, None)
