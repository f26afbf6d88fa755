"""The stores of an operator's commands."""

from __future__ import annotations

from uuid import uuid4

import pytest

from inferline.accounts.keys import new_key
from inferline.aws.api.client import AwsClient
from inferline.aws.provision import provision
from inferline.aws.stores import open_operator_stores
from inferline.errors import Unavailable
from inferline.settings import Settings


async def test_they_are_in_the_registry_of_the_stack(aws: str) -> None:
    settings = Settings(stack=f"t{uuid4().hex[:6]}", endpoint_url=aws)
    async with AwsClient(settings.region, aws) as client:
        await provision(client, settings)
    key, _ = new_key("client", "n", tenant="t", now_ms=1)

    async with open_operator_stores(settings) as stores:
        await stores.keys.put_key(key)
        assert [key] == await stores.keys.keys("client")
        assert [] == await stores.tenants.tenants()


async def test_a_stack_that_is_not_there_is_named_with_what_aws_says(aws: str) -> None:
    settings = Settings(stack="nowhere", endpoint_url=aws)

    with pytest.raises(Unavailable) as raised:
        async with open_operator_stores(settings) as stores:
            await stores.keys.keys("client")

    assert "'nowhere-registry'" in str(raised.value)
    assert "ResourceNotFoundException" in str(raised.value)
    assert "--stack" in str(raised.value)
