"""The gateway's settings: their values, their warnings and their page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from inferline.cli import main
from inferline.fleet.enrolment import Terms
from inferline.http.proxies import Proxies
from inferline.local.options import LocalOptions
from inferline.options import markdown, options_of
from inferline.settings import KNOWN, Settings, SettingsError, warnings
from inferline_provider.settings import ProviderSettings
from tests.support.tables import renewed

ROOT = Path(__file__).parents[2]


def test_without_an_environment_every_setting_has_its_default() -> None:
    assert Settings() == Settings.from_env({})


def test_a_setting_is_read_in_its_own_type() -> None:
    settings = Settings.from_env(
        {"INFERLINE_LEASE_SECONDS": "7.5", "INFERLINE_ATTEMPTS_MAX": "2", "AWS_REGION": "eu-west-1"}
    )

    assert (7.5, 2, "eu-west-1") == (settings.lease_seconds, settings.attempts_max, settings.region)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env(
            {
                "INFERLINE_LEASE_SECONDS": "long",
                "INFERLINE_ATTEMPTS_MAX": "0",
                "INFERLINE_POLL_SECONDS_MAX": "inf",
                "INFERLINE_DEPTH_MAX": "1.5",
            }
        )

    assert str(raised.value) == (
        "INFERLINE_DEPTH_MAX must be a whole number above 0, got '1.5'; "
        "INFERLINE_POLL_SECONDS_MAX must be a number above 0, got 'inf'; "
        "INFERLINE_LEASE_SECONDS must be a number above 0, got 'long'; "
        "INFERLINE_ATTEMPTS_MAX must be a whole number above 0, got '0'"
    )


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"INFERLINE_QUEUE_SECONDS_KEPT": "599"},
            "INFERLINE_QUEUE_SECONDS_KEPT must be at least INFERLINE_REQUEST_SECONDS_MAX, "
            "got 599 and 600",
        ),
        (
            {"INFERLINE_REQUEST_SECONDS_MAX": "10", "INFERLINE_QUEUE_SECONDS_KEPT": "59"},
            "INFERLINE_QUEUE_SECONDS_KEPT must be a whole number from 60 to 1209600, got '59'",
        ),
        (
            {"INFERLINE_DEAD_LETTER_SECONDS_KEPT": "3599"},
            "INFERLINE_DEAD_LETTER_SECONDS_KEPT must be at least INFERLINE_QUEUE_SECONDS_KEPT, "
            "got 3599 and 3600",
        ),
        (
            {"INFERLINE_DEAD_LETTER_SECONDS_KEPT": "1209601"},
            "INFERLINE_DEAD_LETTER_SECONDS_KEPT must be a whole number from 60 to 1209600, "
            "got '1209601'",
        ),
    ],
)
def test_a_message_outlives_its_request_and_no_longer_than_sqs_keeps_it(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"INFERLINE_STACK": "much-too-long-a-name"}, "INFERLINE_STACK must be 1 to 13"),
        ({"INFERLINE_CREDENTIALS_SECONDS": "899"}, "must be a whole number from 900 to 3600"),
        ({"INFERLINE_CORS_ORIGINS": "https://a.example/x"}, "must be origins without a path"),
        ({"INFERLINE_PORT": "65536"}, r"INFERLINE_PORT \(--port\) must be a whole number from 0"),
        ({"INFERLINE_LOG_LEVEL": "loud"}, "must be debug, info, warning or error, got 'loud'"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("old", "name", "value"),
    [
        ("ORPHAN_SECONDS", "unread_task_seconds", "7"),
        ("HEAD_SECONDS_MAX", "first_byte_wait_seconds", "7"),
        ("BLANK_SECONDS", "keepalive_after_seconds", "7"),
        ("ANSWER_MODEL", "response_model", "requested"),
    ],
)
def test_a_renamed_setting_keeps_its_old_name_with_a_warning(
    old: str, name: str, value: str
) -> None:
    environ = {f"INFERLINE_{old}": value}

    assert value == f"{getattr(Settings.from_env(environ), name):{'g' if value == '7' else ''}}"
    [warning] = warnings(environ)
    assert warning.startswith(f"INFERLINE_{old} is now called INFERLINE_{name.upper()};")
    assert [] == warnings({f"INFERLINE_{name.upper()}": value})


@pytest.mark.parametrize(("old", "new"), [("told", "backend"), ("asked", "requested")])
def test_a_renamed_value_keeps_its_old_name_with_a_warning(old: str, new: str) -> None:
    environ = {"INFERLINE_RESPONSE_MODEL": old}

    assert new == Settings.from_env(environ).response_model
    assert [f"INFERLINE_RESPONSE_MODEL={old} is deprecated: write {new} instead"] == warnings(
        environ
    )
    assert new == Settings.from_env({"INFERLINE_ANSWER_MODEL": old}).response_model


def test_providers_are_sent_a_renamed_setting_by_its_name_of_the_protocol() -> None:
    terms = Terms.model_validate(Settings(unread_task_seconds=7))

    assert 7 == terms.unread_task_seconds
    assert '"orphan_seconds":7.0' in terms.model_dump_json(by_alias=True)
    assert terms == Terms.model_validate_json(terms.model_dump_json(by_alias=True))


def test_an_unknown_variable_is_reported_with_the_nearest_known_name() -> None:
    environ = {"INFERLINE_LEASE_SECOND": "hidden", "INFERLINE_ZZZ": "", "OTHER_VARIABLE": "x"}

    assert [
        "INFERLINE_LEASE_SECOND has no effect: no part of InferLine reads it; "
        "did you mean INFERLINE_LEASE_SECONDS?",
        "INFERLINE_ZZZ has no effect: no part of InferLine reads it",
    ] == warnings(environ)


def test_a_variable_of_any_part_is_known() -> None:
    """One file of variables may serve all containers."""
    kinds = (Settings, LocalOptions, ProviderSettings)
    declared = {name for kind in kinds for option in options_of(kind) for name in option.names}
    folders = ("inferline", "provider", "functions", "infra/[!n]*", "docker", "docs", "bench")
    kinds_of_file = (".py", ".md", ".yml", ".service")
    files = [path for folder in folders for path in ROOT.glob(f"{folder}/**/*")]
    texts = [path.read_text() for path in files if path.suffix in kinds_of_file]
    texts.append((ROOT / "docker/Dockerfile").read_text())
    written = set(re.findall(r"\bINFERLINE_[A-Z_]*[A-Z]\b(?!_)", "\n".join(texts)))

    assert {name for name in declared if name.startswith("INFERLINE_")} <= KNOWN
    assert written <= KNOWN
    assert KNOWN - declared == {"INFERLINE_API_KEY", "INFERLINE_CACHE_DIR"}


def test_a_command_reports_an_unknown_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERLINE_STAK", "production")

    assert 0 == main(["settings"])

    output = capsys.readouterr()
    assert output.err.endswith("did you mean INFERLINE_STACK?\n")
    assert "production" not in output.err
    assert markdown(Settings) == output.out.rstrip()


def test_a_gateway_listens_where_its_flags_say_and_logs_an_unknown_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("inferline.gateway.server.run", lambda *arguments: calls.append(arguments))
    for name, value in {"PORT": "9000", "LOG_LEVEL": "WARNING", "STAK": "production"}.items():
        monkeypatch.setenv(f"INFERLINE_{name}", value)

    assert 0 == main(["gateway", "--port", "9001"])

    [(settings, host, port, _)] = calls
    assert ("127.0.0.1", 9001, "warning") == (host, port, settings.log_level)
    [line] = caplog.messages
    assert line.endswith("did you mean INFERLINE_STACK?")


def test_a_wrong_port_ends_the_start_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERLINE_PORT", "tcp://10.0.0.1:8000")

    assert 2 == main(["gateway"])

    assert capsys.readouterr().err == (
        "inferline: INFERLINE_PORT (--port) must be a whole number from 0 to 65535, "
        "got 'tcp://10.0.0.1:8000'\n"
    )


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings() == Settings.from_env({"INFERLINE_LEASE_SECONDS": ""})


def test_a_token_never_shows() -> None:
    assert "canary" not in repr(Settings.from_env({"INFERLINE_PROVIDER_TOKEN": "canary"}))


def test_the_page_of_settings_lists_every_one() -> None:
    """`make docs` renews the page."""
    page = (ROOT / "docs/settings.md").read_text()
    variables = [option.variable for option in options_of(Settings)]

    assert renewed("docs/settings.md") == page
    assert markdown(Settings) in page
    assert len(set(variables)) == len(variables)


def test_what_has_no_name_is_named_after_the_stack() -> None:
    settings = Settings.from_env({"INFERLINE_STACK": "s", "INFERLINE_BODIES_BUCKET": "mine"})

    assert ("s-tasks", "s-registry", "mine") == (
        settings.tasks_table,
        settings.registry_table,
        settings.bodies_bucket,
    )


def test_a_choice_is_one_of_those_there_are() -> None:
    with pytest.raises(SettingsError, match="INFERLINE_ACCESS must be open or keys, got 'key'"):
        Settings.from_env({"INFERLINE_ACCESS": "key"})


def test_proxies_are_read_as_other_programs_read_them() -> None:
    settings = Settings.from_env(
        {"ALL_PROXY": "http://a", "https_proxy": "http://n:canary@b", "no_proxy": ".corp"}
    )

    assert Proxies("http://a", "http://n:canary@b", ".corp") == settings.proxies
    assert "canary" not in repr(settings)
    assert "" == Settings.from_env({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}).http_proxy
