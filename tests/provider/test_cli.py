from __future__ import annotations

import re
from pathlib import Path

import pytest

from inferline.options import SettingsError, options_of
from inferline_provider import cli
from inferline_provider.enrolment import EnrolmentRefused, ProviderQuarantined
from inferline_provider.settings import ProviderSettings
from tests.provider.command import read

GIVEN = {"INFERLINE_BASE_URL": "http://gateway:8000/v1", "OPENAI_BASE_URL": "http://llm:8001/v1"}


def test_the_environment_is_enough() -> None:
    environ = {
        **GIVEN,
        "INFERLINE_PROVIDER_TOKEN": "t",
        "OPENAI_API_KEY": "k",
        "PROVIDER_ID": "gpu1",
        "SLOTS": "8",
        "MODEL_REFRESH_INTERVAL": "5",
        "MODELS": "a, b",
        "ALIASES": "x=/m/x.gguf,y=z",
        "DRAIN_SECONDS": "3",
        "POLL_SECONDS": "2",
        "ALIVE_FILE": "/run/alive",
        "LOG_LEVEL": "debug",
    }

    settings = read([], environ)

    assert (settings.base_url, settings.backend) == ("http://gateway:8000", "http://llm:8001")
    assert (settings.token, settings.backend_key, settings.id) == ("t", "k", "gpu1")
    assert (settings.slots, settings.refresh_seconds, settings.models) == (8, 5, ("a", "b"))
    assert settings.aliases == {"x": "/m/x.gguf", "y": "z"}
    assert (settings.drain_seconds, settings.poll_seconds, settings.log_level) == (3, 2, "debug")
    assert settings.alive_file == Path("/run/alive")


def test_a_flag_goes_before_the_environment() -> None:
    settings = read(["--slots", "2", "--alias", "a=b"], {**GIVEN, "SLOTS": "8"})

    assert settings.slots == 2
    assert settings.aliases == {"a": "b"}


def test_without_a_number_slots_are_found_within_a_bound_that_can_be_set() -> None:
    settings = read([], GIVEN)
    stricter = read([], {**GIVEN, "FIRST_TOKEN_SECONDS": "1.5"})

    assert (None, 5.0) == (settings.slots, settings.first_token_seconds)
    assert 1.5 == stricter.first_token_seconds


def test_two_backends_of_a_host_are_two_providers() -> None:
    first = read([], GIVEN)
    again = read([], GIVEN)
    other = read(["--backend", "http://llm:8002"], GIVEN)

    assert first.id == again.id != other.id


@pytest.mark.parametrize("name", ["INFERLINE_BASE_URL", "OPENAI_BASE_URL"])
def test_what_is_missing_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in GIVEN.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv(name, "")

    assert cli.main([]) == 2

    error = capsys.readouterr().err
    assert name in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--slots", "many"],
        ["--slots", "0"],
        ["--first-token-seconds", "0"],
        ["--drain-seconds", "-1"],
        ["--refresh", "inf"],
        ["--alias", "a"],
        ["--alias", "a b=c"],
        ["--id", "a b"],
        ["--backend", "ftp://x"],
        ["--backend", "http://x:99999"],
        ["--backend", "http://[x"],
        ["--log-level", "loud"],
        ["--poll-seconds", "99"],
        ["--poll-seconds", "0.5"],
        ["--metrics-port", "65536"],
    ],
)
def test_what_can_not_be_used_is_named(flags: list[str]) -> None:
    with pytest.raises(SettingsError, match=flags[0]):
        read(flags, GIVEN)


def test_a_poll_longer_than_sqs_allows_is_refused_with_its_bounds() -> None:
    message = r"POLL_SECONDS \(--poll-seconds\) must be a whole number from 1 to 20, got '99'"

    with pytest.raises(SettingsError, match=message):
        read(["--poll-seconds", "99"], GIVEN)


def test_all_problems_are_reported_at_once_and_no_secret_is_repeated() -> None:
    environ = {"SLOTS": "0", "OPENAI_BASE_URL": "ftp://user:hidden@llm", "LOG_LEVEL": "loud"}

    with pytest.raises(SettingsError) as raised:
        read(["--drain-seconds", "x"], environ)

    text = str(raised.value)
    for name in ("INFERLINE_BASE_URL", "SLOTS", "OPENAI_BASE_URL", "LOG_LEVEL", "DRAIN_SECONDS"):
        assert name in text
    assert "hidden" not in text


def test_an_unknown_variable_is_reported_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def end(*_: object) -> None:
        return None

    for key, value in {**GIVEN, "INFERLINE_BASE_ULR": "x", "INFERLINE_LEASE_SECONDS": "9"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(cli, "_run", end)

    assert cli.main([]) == 0

    [line] = caplog.messages
    assert "INFERLINE_BASE_ULR" in line
    assert "did you mean INFERLINE_BASE_URL?" in line


def test_the_help_names_every_flag_and_its_variable() -> None:
    text = cli.parser().format_help()

    for option in options_of(ProviderSettings):
        assert f"  {option.flag}" in text
        assert f"[{option.variable}" in re.sub(r"\s+", " ", text)
    assert "exit codes" in text
    assert "examples" in text


def test_secrets_do_not_show() -> None:
    settings = read([], {**GIVEN, "OPENAI_API_KEY": "sk-1", "INFERLINE_PROVIDER_TOKEN": "tk-1"})

    assert "sk-1" not in repr(settings)
    assert "tk-1" not in repr(settings)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EnrolmentRefused("no"), 3),
        (ProviderQuarantined("no"), 4),
        (ExceptionGroup("parts", [ProviderQuarantined("no")]), 4),
        (ExceptionGroup("parts", [OSError("died")]), 1),
    ],
)
def test_the_exit_code_says_who_can_mend_it(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(*_: object) -> None:
        raise error

    for key, value in GIVEN.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(cli, "_run", end)

    assert code == cli.main([])
