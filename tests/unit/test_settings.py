"""Settings are read once, told of in one place, and refused all at once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from inferline.http.proxies import Proxies
from inferline.settings import Settings, SettingsError, env_name, markdown

PAGE = Path(__file__).parents[2] / "docs/settings.md"


def test_without_an_environment_every_setting_has_its_default() -> None:
    assert Settings() == Settings.from_env({})


def test_a_setting_is_read_in_its_own_type() -> None:
    found = Settings.from_env(
        {"INFERLINE_LEASE_SECONDS": "7.5", "INFERLINE_ATTEMPTS_MAX": "2", "AWS_REGION": "eu-west-1"}
    )

    assert (7.5, 2, "eu-west-1") == (found.lease_seconds, found.attempts_max, found.region)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as told:
        Settings.from_env(
            {
                "INFERLINE_LEASE_SECONDS": "long",
                "INFERLINE_ATTEMPTS_MAX": "0",
                "INFERLINE_POLL_SECONDS_MAX": "inf",
                "INFERLINE_DEPTH_MAX": "1.5",
            }
        )

    assert str(told.value) == (
        "INFERLINE_DEPTH_MAX must be a whole number, got '1.5'; "
        "INFERLINE_POLL_SECONDS_MAX must be above 0 and finite, got 'inf'; "
        "INFERLINE_LEASE_SECONDS must be a number, got 'long'; "
        "INFERLINE_ATTEMPTS_MAX must be above 0 and finite, got '0'"
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"INFERLINE_QUEUE_SECONDS_KEPT": "599"},
        {"INFERLINE_REQUEST_SECONDS_MAX": "10", "INFERLINE_QUEUE_SECONDS_KEPT": "59"},
        {"INFERLINE_DEAD_LETTER_SECONDS_KEPT": "3599"},
        {"INFERLINE_DEAD_LETTER_SECONDS_KEPT": "1209601"},
    ],
)
def test_a_message_outlives_its_request_and_no_longer_than_sqs_keeps_it(
    environ: dict[str, str],
) -> None:
    with pytest.raises(SettingsError, match="INFERLINE_QUEUE_SECONDS_KEPT must be at least 60"):
        Settings.from_env(environ)


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings() == Settings.from_env({"INFERLINE_LEASE_SECONDS": ""})


def test_a_token_never_shows() -> None:
    assert "canary" not in repr(Settings.from_env({"INFERLINE_PROVIDER_TOKEN": "canary"}))


def test_the_page_of_settings_lists_every_one() -> None:
    """`make docs` renews the page."""
    assert markdown() in PAGE.read_text()
    assert len({env_name(spec) for spec in fields(Settings)}) == len(fields(Settings))


def test_what_has_no_name_is_named_after_the_stack() -> None:
    found = Settings.from_env({"INFERLINE_STACK": "s", "INFERLINE_BODIES_BUCKET": "mine"})

    assert ("s-tasks", "s-registry", "mine") == (
        found.tasks_table,
        found.registry_table,
        found.bodies_bucket,
    )


def test_a_choice_is_one_of_those_there_are() -> None:
    with pytest.raises(SettingsError, match="INFERLINE_ACCESS must be open or keys, got 'key'"):
        Settings.from_env({"INFERLINE_ACCESS": "key"})


def test_proxies_are_read_as_other_programs_read_them() -> None:
    found = Settings.from_env(
        {"ALL_PROXY": "http://a", "https_proxy": "http://n:canary@b", "no_proxy": ".corp"}
    )

    assert Proxies("http://a", "http://n:canary@b", ".corp") == found.proxies
    assert "canary" not in repr(found)
    assert "" == Settings.from_env({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}).http_proxy
