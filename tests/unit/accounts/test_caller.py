"""Callers travel from the authorizer to the functions as strings."""

from __future__ import annotations

import pytest

from inferline.accounts.caller import Caller
from inferline.accounts.limits import Limits

LIMITED = Caller(
    tenant="acme",
    key_id="k1",
    models=("llama-*", "qwen/*"),
    tiers=("flex",),
    tenant_models=("llama-*",),
    is_reserved=True,
    limits=Limits(requests_per_minute=3, tokens_per_day=0),
    tenant_limits=Limits(concurrent_requests=2),
)


@pytest.mark.parametrize(
    "caller",
    [
        Caller(tenant="acme", key_id="k1"),
        Caller(tenant="local", key_id="k2", role="provider", models=("a-*",)),
        LIMITED,
    ],
)
def test_a_caller_survives_the_way_to_the_functions(caller: Caller) -> None:
    context = caller.to_context()

    assert caller == Caller.from_context(context)
    assert all(isinstance(value, str) for value in context.values())


def test_without_a_key_there_is_no_caller() -> None:
    assert Caller.from_context({}) is None
    assert Caller.from_context({"principalId": "someone"}) is None
