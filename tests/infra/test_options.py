"""A stack's options, and the messages about those that can't be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferline.options import SettingsError
from infra.options import Options, documented
from tests.support.tables import renewed_context
from tests.support.template import ROOT, context


def test_cdk_json_names_every_option_with_its_default_and_meaning() -> None:
    cdk_json = json.loads((ROOT / "cdk.json").read_text())

    assert Options() == Options.from_context(cdk_json["context"])
    assert documented() == cdk_json["//"][1:]
    for line in documented():
        assert line.partition(":")[0] in cdk_json["context"]
    assert renewed_context() == (ROOT / "cdk.json").read_text()


def test_the_command_line_gives_text_for_everything() -> None:
    given = {"models": "a, b/c", "waf": "true", "log_days": "7", "edge": "buffered"}

    options = Options.from_context(context(**given))

    assert Options(models=("a", "b/c"), waf=True, log_days=7, edge="buffered") == options


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"modles": ["a"]}, "modles is not an option; did you mean models?"),
        ({"cors_origins": ["https://a.example/"]}, "cors_origins must be origins"),
        ({"edge": "streaming"}, "edge must be stream or buffered"),
        ({"waf": "yes"}, "waf must be true or false, got 'yes'"),
        ({"log_days": 8}, "log_days must be 1, 3, 5, 7"),
        ({"log_days": "-1"}, "log_days must be 1, 3, 5, 7"),
        ({"flush_milliseconds": "-1"}, "flush_milliseconds must be a whole number above 0"),
        ({"requests_burst": 0}, "requests_burst must be a whole number above 0"),
        ({"tenant_concurrent_requests": -1}, "tenant_concurrent_requests must be a whole number"),
        ({"models": {"a": 1}}, "models must be a list of texts"),
        ({"models": ["a", "a"]}, "each only once"),
        ({"models": ["a,b"]}, "without commas"),
        ({"models": "[broken"}, "models must be a list of texts"),
        ({"stack": "much-too-long-a-name"}, "stack must be 1 to 13"),
        ({"stack": "Upper"}, "stack must be 1 to 13"),
        ({"alarm_email": "nobody"}, "alarm_email must be an e-mail address, got 'nobody'"),
        ({"architecture": "arm"}, "architecture must be arm64 or x86_64"),
        ({"protect": None}, "protect must be true or false"),
        (
            {"queue_seconds_kept": 600},
            "queue_seconds_kept must be a whole number from 900 to 1209600",
        ),
        ({"dead_letter_seconds_kept": 600}, "must be a whole number from 900 to 1209600"),
        ({"dead_letter_seconds_kept": 3599}, "must be at least queue_seconds_kept"),
        ({"inference_mb": 127}, "inference_mb must be a whole number from 128 to 10240"),
        ({"stack": ""}, "stack must be 1 to 13"),
        ({"task_seconds_kept": 1.5}, "task_seconds_kept must be a whole number"),
    ],
)
def test_what_can_not_be_used_is_named(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem.replace("[", r"\[")):
        Options.from_context(given)


def test_a_limit_can_be_none() -> None:
    for none in (0, "0"):
        options = Options.from_context({"tenant_requests_per_minute": none})

        assert 0 == options.tenant_requests_per_minute


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        Options.from_context({"waf": "yes", "modles": []})

    assert "waf" in str(raised.value)
    assert "modles" in str(raised.value)


def test_a_model_may_stay_listed_forever() -> None:
    assert 0 == Options.from_context({"model_seconds_kept": 0}).model_seconds_kept


def test_the_cdks_own_flags_are_none_of_ours() -> None:
    flags = {"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:bundling-stacks": []}

    assert Options() == Options.from_context(flags)
