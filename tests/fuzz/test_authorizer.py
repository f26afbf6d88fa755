"""Whatever API Gateway passes on to the authorizer: without a key there is no policy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from functions._policy import key_from_event, policy
from inferline.accounts.caller import Role
from inferline.accounts.keyring import Keyring
from inferline.accounts.keys import KEY_HEADERS, new_key
from inferline.errors import NotAuthenticated
from inferline.memory.keys import MemoryKeys
from inferline.memory.tenants import MemoryTenants
from tests.support.fuzzing import fuzz, tried

STAGE = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/api"
ROLES: tuple[Role, ...] = ("client", "provider", "admin")
KEYS = MemoryKeys()
KEYRING = Keyring(KEYS, MemoryTenants(), lambda: 0)

texts = st.text(st.characters(), max_size=60) | st.text(max_size=60)
names = (
    st.sampled_from(["Authorization", "AUTHORIZATION", "x-api-key", "Api-Key", "X-API-KEY", "x"])
    | texts
)
values = texts | texts.map("Bearer {}".format)


def known(role: Role) -> str:
    key, text = new_key(role, "n", tenant="acme", now_ms=0)
    asyncio.run(KEYS.put_key(key))
    return text


TEXTS = {role: known(role) for role in ROLES}


@fuzz(400)
@given(
    st.fixed_dictionaries(
        {"methodArn": texts},
        optional={
            "headers": st.none() | st.dictionaries(names, values, max_size=4),
            "multiValueHeaders": st.none()
            | st.dictionaries(names, st.lists(values, max_size=3), max_size=4),
            "path": texts,
        },
    )
)
def test_no_event_without_a_key_has_a_policy(event: dict[str, Any]) -> None:
    tried["events of the authorizer"] += 1
    with pytest.raises(NotAuthenticated):
        asyncio.run(KEYRING.caller(key_from_event(event)))


@fuzz(200)
@given(st.sampled_from(ROLES), st.data())
def test_no_key_that_is_nearly_right_has_a_policy(role: Role, data: st.DataObject) -> None:
    tried["events of the authorizer"] += 1
    text = TEXTS[role]
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.text(max_size=1)) + text[at + data.draw(st.integers(0, 1)) :]
    assume(changed.strip() != text)

    with pytest.raises(NotAuthenticated):
        asyncio.run(
            KEYRING.caller(key_from_event({"headers": {"Authorization": f"Bearer {changed}"}}))
        )


@fuzz(200)
@given(st.sampled_from(ROLES), texts, st.dictionaries(texts, texts, max_size=3))
def test_a_policy_is_the_same_whatever_else_is_asked(
    role: Role, path: str, headers: dict[str, str]
) -> None:
    tried["events of the authorizer"] += 1
    assume({name.lower() for name in headers}.isdisjoint(KEY_HEADERS))
    event = {"headers": {**headers, "Authorization": f"Bearer {TEXTS[role]}"}}

    caller = asyncio.run(KEYRING.caller(key_from_event(event)))
    policies = [policy(caller, f"{STAGE}/{rest}") for rest in ("GET/v1/models", f"GET/{path}")]

    assert policies[0] == policies[1]
    assert role == json.loads(json.dumps(policies[0]))["context"]["role"]
