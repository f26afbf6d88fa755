"""Tokens of batches, counted against the daily limits of their key and tenant."""

from __future__ import annotations

import logging

from inferline.accounts.limits import Limits, default_limits
from inferline.accounts.rate_counters import LimitOwner, RateCounters
from inferline.batches.batch import Batch
from inferline.batches.parts import BatchParts
from inferline.errors import Unavailable

log = logging.getLogger(__name__)


async def charge(parts: BatchParts, before: Batch, after: Batch) -> None:
    """
    Count the tokens that a batch has used between two rows of it, where there are daily limits.

    A batch that was let in runs to its end, so nothing is refused; but its tenant's next requests
    may be. Called once for each row written: tokens are lost to the count if the process dies then.
    """
    tokens = after.input_tokens + after.output_tokens - before.input_tokens - before.output_tokens
    if tokens <= 0 or not after.key_id:
        return
    try:
        await _charge(parts, after, tokens)
    except Unavailable:
        log.warning("the tokens of a batch could not be counted", extra={"batch": after.id})


async def _charge(parts: BatchParts, batch: Batch, tokens: int) -> None:
    key, tenant = await parts.keys.key(batch.key_id), await parts.tenants.tenant(batch.tenant)
    owners = (
        (LimitOwner("key", batch.key_id), key.limits if key else Limits()),
        (LimitOwner("tenant", batch.tenant), tenant.limits),
    )
    counters = RateCounters(parts.rate_counters, parts.settings.request_seconds_max)
    for owner, limits in owners:
        if limits.over(default_limits(parts.settings, owner.kind)).tokens_per_day:
            await counters.charge(owner, tokens)
