"""Tells API Gateway whose key a request shows, and what it is good for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from functions._metrics import emit_failure
from functions._policy import key_from_event, policy
from functions._wiring import Opened, aws, run, settings
from inferline.accounts.key_cache import KeyCache
from inferline.accounts.keyring import Keyring
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.clock import SystemClock
from inferline.errors import NotAuthenticated, Unavailable


@asynccontextmanager
async def _known() -> AsyncIterator[KeyCache]:
    async with aws() as client:
        table = settings.registry_table
        keys, tenants = DynamoKeys(client, table), DynamoTenants(client, table)
        yield KeyCache(Keyring(keys, tenants, client.now_ms), SystemClock())


_opened = Opened(_known).at_start()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return the policy of the key's bearer. Raises what API Gateway answers with 401."""
    try:
        return run(_authorize(event), context)
    except NotAuthenticated:
        raise Exception("Unauthorized") from None  # API Gateway answers it with 401.
    except (Unavailable, TimeoutError):
        emit_failure()
        raise


async def _authorize(event: dict[str, Any]) -> dict[str, Any]:
    known = await _opened()
    return policy(await known.caller(key_from_event(event)), event["methodArn"])
