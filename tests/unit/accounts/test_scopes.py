"""Scopes: patterns of models, what a caller may see, and what is reserved."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inferline.accounts.caller import Caller
from inferline.accounts.patterns import PATTERNS_CHARS_MAX, check, matches
from inferline.aws.lending import session_policy
from inferline.aws.sqs import queue_name
from inferline.names import NAME, base_name, dedicated_name, slug
from inferline.settings import Settings
from inferline.tasks.task import QUEUE_TIERS

names = st.from_regex(NAME, fullmatch=True)
SETTINGS = Settings(provider_role="arn:aws:iam::123456789012:role/p", stack="inferline")


@pytest.mark.parametrize(
    ("name", "patterns", "is_one"),
    [
        ("llama", ("llama",), True),
        ("llama", ("x", "ll*"), True),
        ("llama", ("Llama",), False),
        ("org/llama", ("*llama",), True),
        ("llama-2", ("llama-[13]", "llama-?"), True),
        ("llama-2", ("llama-[!2]",), False),
        ("anything", ("*",), True),
        ("anything", (), False),
    ],
)
def test_patterns_are_those_of_the_shell(
    name: str, patterns: tuple[str, ...], is_one: bool
) -> None:
    assert is_one is matches(name, patterns)


@pytest.mark.parametrize(
    "patterns", [(), ("",), ("a b",), ("a,b",), ("a#b",), ("x" * 128,) * 9, ("x" * 129,)]
)
def test_what_can_stand_for_no_model_is_no_pattern(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        check(patterns)


def test_patterns_fit_the_header_that_they_travel_in() -> None:
    most = ("x" * 127,) * 8

    assert most == check(most)
    assert PATTERNS_CHARS_MAX == len(",".join(most)) + 1


@given(names, names)
def test_a_reserved_name_is_no_models_and_tells_what_it_is_called(model: str, tenant: str) -> None:
    name = dedicated_name(model, tenant)

    assert not NAME.fullmatch(name)
    assert model == base_name(name)
    assert model == base_name(model)


@given(names, names, names)
def test_a_caller_is_shown_what_is_its_own_and_nothing_else(
    model: str, tenant: str, other: str
) -> None:
    assume(tenant != other)
    apart = Caller(tenant=tenant, is_reserved=True)
    ordinary = Caller(tenant=tenant)

    assert model == apart.visible_name(apart.registry_name(model)) == ordinary.visible_name(model)
    assert apart.visible_name(model) is None
    assert apart.visible_name(dedicated_name(model, other)) is None
    assert ordinary.visible_name(dedicated_name(model, tenant)) is None


def test_a_key_is_for_what_both_it_and_its_tenant_are_for() -> None:
    caller = Caller(tenant="t", models=("a*", "b"), tenant_models=("*x", "b"))

    assert [True, True] == [caller.may_use(model) for model in ("ax", "b")]
    assert [False, False] == [caller.may_use(model) for model in ("a", "cx")]
    assert not caller.sees_all


@given(names, names, names)
def test_rights_to_one_model_open_nothing_that_is_reserved(
    model: str, other: str, tenant: str
) -> None:
    """Try names of any form: rights to a model's queues end in a star."""
    [queues, tasks, bodies] = json.loads(session_policy(SETTINGS, [slug(model)]))["Statement"]
    apart = slug(dedicated_name(other, tenant))
    ours = [
        f"arn:aws:sqs:r:1:{queue_name('inferline', dedicated_name(other, tenant), t)}"
        for t in QUEUE_TIERS
    ]

    assert not any(fnmatchcase(arn, pattern) for arn in ours for pattern in queues["Resource"])
    keys = tasks["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    assert not any(fnmatchcase(f"{apart}#req_1", pattern) for pattern in keys)
    body = f"arn:aws:s3:::{SETTINGS.bodies_bucket}/{apart}/req_1"
    assert not any(fnmatchcase(body, pattern) for pattern in bodies["Resource"])


@given(names, names, names, names)
def test_nor_do_rights_to_what_is_reserved_for_somebody_else(
    model: str, tenant: str, other: str, another: str
) -> None:
    assume((model, tenant) != (other, another))
    first, second = slug(dedicated_name(model, tenant)), slug(dedicated_name(other, another))

    assert not f"{second}-default".startswith(f"{first}-")
