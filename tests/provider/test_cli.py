from __future__ import annotations

from pathlib import Path

import pytest

from inferline_provider import cli
from inferline_provider.enrolment import EnrolmentRefused, ProviderQuarantined

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

    settings, level = cli.read([], environ)

    assert (settings.base_url, settings.backend) == ("http://gateway:8000", "http://llm:8001")
    assert (settings.token, settings.backend_key, settings.id) == ("t", "k", "gpu1")
    assert (settings.slots, settings.refresh_seconds, settings.models) == (8, 5, ("a", "b"))
    assert settings.aliases == {"x": "/m/x.gguf", "y": "z"}
    assert (settings.drain_seconds, settings.poll_seconds, level) == (3, 2, "DEBUG")
    assert settings.alive_file == Path("/run/alive")


def test_a_flag_goes_before_the_environment() -> None:
    settings, _ = cli.read(["--slots", "2", "--alias", "a=b"], {**GIVEN, "SLOTS": "8"})

    assert settings.slots == 2
    assert settings.aliases == {"a": "b"}


def test_without_a_number_slots_are_found_within_a_bound_that_can_be_set() -> None:
    settings, _ = cli.read([], GIVEN)
    stricter, _ = cli.read([], {**GIVEN, "FIRST_TOKEN_SECONDS": "1.5"})

    assert (None, 5.0) == (settings.slots, settings.first_token_seconds)
    assert 1.5 == stricter.first_token_seconds


def test_two_backends_of_a_host_are_two_providers() -> None:
    first, _ = cli.read([], GIVEN)
    again, _ = cli.read([], GIVEN)
    other, _ = cli.read(["--backend", "http://llm:8002"], GIVEN)

    assert first.id == again.id != other.id


@pytest.mark.parametrize("name", ["INFERLINE_BASE_URL", "OPENAI_BASE_URL"])
def test_what_is_missing_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in GIVEN.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv(name, "")

    assert cli.main([]) == 2

    message = capsys.readouterr().err
    assert name in message
    assert len(message.splitlines()) == 1


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
        ["--log-level", "loud"],
    ],
)
def test_what_can_not_be_used_is_named(flags: list[str]) -> None:
    with pytest.raises(cli.SettingsError, match=flags[0]):
        cli.read(flags, GIVEN)


def test_the_help_names_every_flag_and_its_variable() -> None:
    text = cli.parser().format_help()

    for name, variable in cli.ENV.items():
        assert f"--{name.replace('_', '-')}" in text
        assert variable in text
    assert "exit codes" in text
    assert "examples" in text


def test_secrets_do_not_show() -> None:
    settings, _ = cli.read(
        [], {**GIVEN, "OPENAI_API_KEY": "sk-1", "INFERLINE_PROVIDER_TOKEN": "tk-1"}
    )

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
