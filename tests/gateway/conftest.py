"""A gateway and a client for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """Yield a gateway that knows one model with one provider."""
    async with running_gateway() as running:
        await running.know()
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of it."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
        yield http
