"""Tells API Gateway whose key a request shows, and what it is good for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from functions._metrics import emit_failure
from functions._policy import bearer, policy
from functions._wiring import Opened, aws, run, settings
from inferline.aws.keys import DynamoKeys
from inferline.aws.tenants import DynamoTenants
from inferline.errors import NotAuthenticated, Unavailable
from inferline.keyring import Keyring


@asynccontextmanager
async def _keyring() -> AsyncIterator[Keyring]:
    async with aws() as client:
        table = settings.registry_table
        yield Keyring(DynamoKeys(client, table), DynamoTenants(client, table), client.now_ms)


_opened = Opened(_keyring).at_start()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """The policy of the key's bearer. Raises what API Gateway answers with 401."""
    try:
        return run(_authorize(event), context)
    except NotAuthenticated:
        raise Exception("Unauthorized") from None  # API Gateway answers it with 401.
    except (Unavailable, TimeoutError):
        emit_failure()
        raise


async def _authorize(event: dict[str, Any]) -> dict[str, Any]:
    keyring = await _opened()
    return policy(await keyring.caller(bearer(event)), event["methodArn"])
