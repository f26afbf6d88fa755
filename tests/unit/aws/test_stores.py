"""The errors of a gateway whose emulator is not there, or refuses to make its tables."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from inferline.aws import stores
from inferline.aws.api.errors import translated
from inferline.errors import Unavailable
from inferline.settings import Settings

EMULATOR = Settings(stack="t", endpoint_url="http://127.0.0.1:9")
REFUSAL: Any = {"Error": {"Code": "AccessDenied", "Message": "not for you"}}


async def opened() -> None:
    async with stores.open_gateway_stores(EMULATOR):
        pytest.fail("it opened")


async def refuse(*_: object) -> None:
    raise ClientError(REFUSAL, "CreateTable")


async def refuse_translated(*_: object) -> None:
    await translated(refuse())


async def test_an_emulator_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match=r"There is no AWS at http://127\.0\.0\.1:9"):
        await opened()


@pytest.mark.parametrize("refusal", [refuse, refuse_translated])
async def test_a_call_that_the_emulator_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, refusal: Any
) -> None:
    monkeypatch.setattr(stores, "provision", refusal)

    with pytest.raises(Unavailable) as raised:
        await opened()

    assert (
        "http://127.0.0.1:9 refused CreateTable, one of the calls that make the stack's tables "
        "and queues: AccessDenied: not for you"
    ) == str(raised.value)
