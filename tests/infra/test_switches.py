"""What an operator may choose, and what is said about a choice that there is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.switches import SwitchError, Switches, documented
from tests.support.template import ROOT, context


def test_cdk_json_names_every_switch_with_its_default_and_meaning() -> None:
    cdk_json = json.loads((ROOT / "cdk.json").read_text())

    assert Switches() == Switches.from_context(cdk_json["context"])
    assert documented() == cdk_json["//"][1:]
    for line in documented():
        assert line.partition(":")[0] in cdk_json["context"]


def test_the_command_line_gives_text_for_everything() -> None:
    told = {"models": "a, b/c", "waf": "true", "log_days": "7", "edge": "buffered"}

    found = Switches.from_context(context(**told))

    assert Switches(models=("a", "b/c"), waf=True, log_days=7, edge="buffered") == found


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"modles": ["a"]}, "modles is no switch"),
        ({"cors_origins": ["https://a.example/"]}, "cors_origins must be origins"),
        ({"edge": "streaming"}, "edge must be stream or buffered"),
        ({"waf": "yes"}, "waf must be true or false, got 'yes'"),
        ({"log_days": 8}, "log_days must be one of"),
        ({"log_days": "-1"}, "log_days must be a whole number above 0"),
        ({"requests_burst": 0}, "requests_burst must be a whole number above 0"),
        ({"tenant_concurrent_requests": -1}, "tenant_concurrent_requests must be a whole number"),
        ({"models": {"a": 1}}, "models must be a list of texts"),
        ({"models": ["a", "a"]}, "each only once"),
        ({"models": ["a,b"]}, "without commas"),
        ({"models": "[broken"}, "models must be a list of texts"),
        ({"stack": "much-too-long-a-name"}, "stack must be 1 to 13"),
        ({"stack": "Upper"}, "stack must be 1 to 13"),
        ({"alarm_email": "nobody"}, "alarm_email must be an address"),
        ({"architecture": "arm"}, "architecture must be arm64 or x86_64"),
        ({"protect": None}, "protect must be true or false"),
        ({"queue_seconds_kept": 600}, "queue_seconds_kept must be from 900 to 1209600"),
        ({"dead_letter_seconds_kept": 600}, "must be from queue_seconds_kept to 1209600"),
        ({"task_seconds_kept": 1.5}, "task_seconds_kept must be a whole number"),
    ],
)
def test_what_can_not_be_used_is_named(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(SwitchError, match=problem.replace("[", r"\[")):
        Switches.from_context(told)


def test_a_limit_can_be_none() -> None:
    for none in (0, "0"):
        found = Switches.from_context({"tenant_requests_per_minute": none})

        assert 0 == found.tenant_requests_per_minute


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SwitchError) as raised:
        Switches.from_context({"waf": "yes", "modles": []})

    assert "waf" in str(raised.value)
    assert "modles" in str(raised.value)


def test_the_cdks_own_flags_are_none_of_ours() -> None:
    flags = {"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:bundling-stacks": []}

    assert Switches() == Switches.from_context(flags)
