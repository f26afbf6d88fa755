"""The authorizer, under Lambda's own runtime."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from functions._edge import caller
from inferline.accounts.issuing import Issuer
from inferline.accounts.keys import new_key
from inferline.accounts.limits import Limits
from inferline.accounts.tenants import Tenant
from tests.support.cloud import Cloud, invoked, metrics, recorded
from tests.support.runtime_api import Function

STAGE = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/api"


def asking(text: str, name: str = "Authorization") -> dict[str, Any]:
    return showing({name: [f"Bearer {text}"]})


def showing(headers: dict[str, list[str]]) -> dict[str, Any]:
    """Return the event of a request with these headers."""
    last = {name: values[-1] for name, values in headers.items()}
    return recorded("authorizer", headers=last, multiValueHeaders=headers)


def allows(policy: dict[str, Any], route: str) -> bool:
    """Return what API Gateway makes of a policy: a denial wins, and nothing said is a denial."""
    effects = {
        statement["Effect"]
        for statement in policy["policyDocument"]["Statement"]
        for resource in statement["Resource"]
        if fnmatchcase(f"{STAGE}/{route}", resource)
    }
    return effects == {"Allow"}


INFERENCE = ("POST/v1/chat/completions", "POST/completions", "GET/v1/models", "GET/v1/providers")
ENROLMENT = ("POST/v1/providers", "POST/api/providers", "DELETE/v1/providers/p1")
KEYS = ("GET/v1/keys", "POST/keys", "POST/api/v1/keys/k1/rotate", "DELETE/api/keys/k1")
#: A model may have any name.
ALIKE = ("GET/v1/models/keys", "GET/v1/models/org/keys")


async def test_a_clients_key_is_good_for_all_but_enrolment_and_keys(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    key_id, text = await cloud.key()

    policy = (await invoked(function("authorizer"), asking(text))).value

    assert key_id == policy["principalId"]
    assert {
        "keyId": key_id,
        "role": "client",
        "tenant": "acme",
        "models": "*",
        "tiers": "priority default flex",
        "tenantModels": "*",
        "reserved": "no",
    } == policy["context"]
    assert [True] * 6 == [allows(policy, route) for route in (*INFERENCE, *ALIKE)]
    assert [False] * 7 == [allows(policy, route) for route in (*ENROLMENT, *KEYS)]


async def test_the_scopes_of_a_key_and_its_tenant_travel_with_the_policy(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    all_limits, limits = Limits(concurrent_requests=0), Limits(requests_per_minute=60)
    scopes: Any = {"models": ("org/*", "m"), "providers": ("token",), "limits": all_limits}
    await cloud.tenants.put_tenant(Tenant(id="acme", **scopes))
    _, text = await cloud.key(models=("a*",), tiers=("flex",), limits=limits)

    policy = (await invoked(function("authorizer"), asking(text))).value

    bearer = caller({"authorizer": policy["context"]})
    assert bearer is not None
    assert (("a*",), ("flex",)) == (bearer.models, bearer.tiers)
    assert (("org/*", "m"), True) == (bearer.tenant_models, bearer.is_reserved)
    assert (limits, all_limits) == (bearer.limits, bearer.tenant_limits)
    assert all(isinstance(value, str) for value in policy["context"].values())


async def test_an_administrators_key_is_good_for_keys_alone(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    _, text = await cloud.key("admin")

    policy = (await invoked(function("authorizer"), asking(text))).value

    assert "admin" == policy["context"]["role"]
    assert [True] * 4 == [allows(policy, route) for route in KEYS]
    assert [False] * 9 == [allows(policy, route) for route in (*INFERENCE, *ENROLMENT, *ALIKE)]


async def test_both_secrets_of_a_rotated_key_are_good_and_its_use_is_noted(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    key_id, old = await cloud.key()
    issuer = Issuer(cloud.keys, ("client",))
    _, new = await issuer.rotate(key_id, cloud.client.now_ms(), 3600)
    cloud.secrets.append(new)
    authorizer = function("authorizer")

    policies = [(await invoked(authorizer, asking(text))).value for text in (old, new)]

    assert [key_id] * 2 == [policy["principalId"] for policy in policies]
    assert {key_id} == set(await cloud.keys.uses())


async def test_a_providers_token_is_good_for_enrolment_alone(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    _, text = await cloud.key("provider", models=("llama-*", "qwen/*"))

    policy = (await invoked(function("authorizer"), asking(text, "authorization"))).value

    assert "llama-* qwen/*" == policy["context"]["models"]
    assert [True] * 3 == [allows(policy, route) for route in ENROLMENT]
    assert [False] * 4 == [allows(policy, route) for route in INFERENCE]


@pytest.mark.parametrize("name", ["x-api-key", "X-Api-Key", "api-key", "Authorization"])
async def test_a_key_may_stand_where_each_sdk_puts_it(
    cloud: Cloud, function: Callable[..., Function], name: str
) -> None:
    key_id, text = await cloud.key()

    beside = {"Authorization": ["Bearer "], name: [text]}
    policy = (await invoked(function("authorizer"), showing(beside))).value

    assert key_id == policy["principalId"]


async def test_two_different_keys_are_unauthorized(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    (_, one), (_, other) = await cloud.key(), await cloud.key()
    headers = {"Authorization": [f"Bearer {one}"], "x-api-key": [other]}

    result = await invoked(function("authorizer"), showing(headers))

    assert result.error is not None
    assert "Unauthorized" == result.error["errorMessage"]


async def test_a_key_is_looked_up_once_a_minute(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    key_id, text = await cloud.key()
    authorizer = function("authorizer")
    await invoked(authorizer, asking(text))
    await cloud.keys.revoke(key_id, cloud.client.now_ms())

    remembered, anew = [
        await invoked(each, asking(text)) for each in (authorizer, function("authorizer"))
    ]

    assert key_id == remembered.value["principalId"]
    assert anew.error is not None


@pytest.mark.parametrize("fault", ["unknown", "broken", "revoked", "none"])
async def test_what_is_no_key_in_force_is_unauthorized(
    cloud: Cloud, function: Callable[..., Function], fault: str
) -> None:
    key_id, text = await cloud.key()
    if fault == "revoked":
        await cloud.keys.revoke(key_id, cloud.client.now_ms())
    if fault == "unknown":
        _, text = new_key("client", "a-key", tenant="acme", now_ms=0)
    if fault == "broken":
        text = text[:-1]
    event = showing({}) if fault == "none" else asking(text)

    authorizer = function("authorizer")
    result = await invoked(authorizer, event)

    assert result.error is not None
    assert "Unauthorized" == result.error["errorMessage"]
    assert {} == metrics(authorizer)


async def test_a_store_that_does_not_answer_is_no_refusal(
    function: Callable[..., Function],
) -> None:
    _, text = new_key("client", "a-key", tenant="acme", now_ms=0)
    broken = function("authorizer", INFERLINE_REGISTRY_TABLE="there-is-none")

    result = await invoked(broken, asking(text))

    assert result.error is not None
    assert "Unavailable" == result.error["errorType"]
    assert {"AuthorizerFailures": (1,)} == metrics(broken)
    assert text not in broken.output
