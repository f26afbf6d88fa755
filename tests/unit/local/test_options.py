"""The options of the one-machine mode, and what the parts are told because of them."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any

import pytest

from inferline import local
from inferline.local import plan
from inferline.local.failures import PartMissing
from inferline.local.options import PREFIX, LocalOptions, default_threads, read
from inferline.options import SettingsError, options_of, renamed


def options(*arguments: str, **environ: str) -> LocalOptions:
    parser = argparse.ArgumentParser()
    local.add_arguments(parser)
    return read(parser.parse_args(arguments), environ)


def test_nothing_said_means_the_usual_ports_and_the_built_in_llm() -> None:
    plain = options()

    assert (plain.port, plain.llm_port, plain.emulator_port) == (8000, 8001, 4566)
    assert plain.built_in
    assert plain.gateway_url == "http://127.0.0.1:8000"


def test_the_command_line_outweighs_the_environment() -> None:
    said = options("--port", "9001", INFERLINE_LOCAL_PORT="9000", INFERLINE_LOCAL_SLOTS="7")

    assert (said.port, said.slots) == (9001, 7)


def test_a_flag_may_be_a_variable() -> None:
    assert options(INFERLINE_LOCAL_NO_LLM="1").no_llm
    assert not options(INFERLINE_LOCAL_NO_LLM="false").no_llm
    assert not options(INFERLINE_LOCAL_NO_LLM="").no_llm


def test_yes_is_an_old_word_for_true() -> None:
    environ = {"INFERLINE_LOCAL_NO_LLM": "yes"}

    assert options(**environ).no_llm
    assert ["INFERLINE_LOCAL_NO_LLM=yes is deprecated: write true instead"] == renamed(
        LocalOptions, environ
    )


def test_every_flag_has_a_variable_of_this_mode() -> None:
    for option in options_of(LocalOptions):
        assert option.flag == f"--{option.name.replace('_', '-')}"
        assert option.variable == f"{PREFIX}{option.name.upper()}"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        options("--port", "x", "--backend", "there", "--slots", "0", "--no-llm", "--context", "300")

    assert str(raised.value) == (
        "INFERLINE_LOCAL_BACKEND (--backend) must be an address such as "
        "http://127.0.0.1:8001/v1, got 'there'; "
        "INFERLINE_LOCAL_SLOTS (--slots) must be a whole number from 1 to 1024, got '0'; "
        "INFERLINE_LOCAL_PORT (--port) must be a whole number from 1 to 65535, got 'x'; "
        "--context has no effect with --backend or --no-llm"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "0"),
        ("--port", "70000"),
        ("--port", "8001"),
        ("--backend", "localhost:11434"),
        ("--backend", "http://127.0.0.1:1", "--no-llm"),
        ("--model", "/no/such/file.gguf"),
        ("--model", __file__, "--no-llm"),
        ("--context", "255"),
        ("--context", "4096", "--backend", "http://127.0.0.1:1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        options(*arguments)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.168.1.2", "http://192.168.1.2:8000"),
    ],
)
def test_the_gateway_is_asked_where_it_can_be_reached(host: str, url: str) -> None:
    assert url == options("--host", host).gateway_url


def test_half_of_the_cpus_are_left_to_the_other_parts() -> None:
    assert [1, 1, 2, 8] == [default_threads(cpus) for cpus in (1, 2, 4, 64)]


def test_no_variable_of_the_users_aws_reaches_a_part() -> None:
    env = plan.environment(
        LocalOptions(),
        {
            "AWS_PROFILE": "work",
            "AWS_SESSION_TOKEN": "secret",
            "AWS_ENDPOINT_URL_SQS": "https://elsewhere",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "SLOTS": "99",
            "OPENAI_API_KEY": "secret",
            "HOME": "/home/me",
            "INFERLINE_LEASE_SECONDS": "9",
        },
    )

    assert "secret" not in env.values()
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_SQS", "SLOTS"} & set(env)
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert (env["HOME"], env["INFERLINE_LEASE_SECONDS"]) == ("/home/me", "9")


def test_the_users_backend_gets_the_users_key() -> None:
    own = LocalOptions(backend="http://127.0.0.1:11434/v1")

    assert plan.environment(own, {"OPENAI_API_KEY": "k"})["OPENAI_API_KEY"] == "k"


def names(chosen: LocalOptions, cache: Path) -> list[str]:
    return [part.name for part in plan.parts(chosen, {"INFERLINE_CACHE_DIR": str(cache)})]


def test_each_choice_starts_what_it_needs(tmp_path: Path) -> None:
    always = ["emulator", "gateway"]
    gguf = tmp_path / "mine.gguf"

    assert always == names(LocalOptions(no_llm=True), tmp_path)
    assert [*always, "provider"] == names(LocalOptions(backend="http://b"), tmp_path)
    assert names(LocalOptions(model=gguf), tmp_path) == [
        "emulator", "llm", "gateway", "provider",
    ]  # fmt: skip
    assert names(LocalOptions(), tmp_path) == [
        "model", "emulator", "llm", "gateway", "provider",
    ]  # fmt: skip


def test_every_part_waits_only_for_parts_that_there_are(tmp_path: Path) -> None:
    for chosen in (LocalOptions(), LocalOptions(no_llm=True), LocalOptions(backend="http://b")):
        parts = plan.parts(chosen, {"INFERLINE_CACHE_DIR": str(tmp_path)})
        seen: set[str] = set()
        for part in parts:
            assert set(part.after) <= seen
            seen.add(part.name)


def test_a_taken_port_is_told_with_the_option_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(PartMissing, match=f"Port {port} .* is taken; .* --port"):
            plan.check(LocalOptions(port=port, no_llm=True), {})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *_: Any) -> object:
        return None if name == "ministack" else object()

    monkeypatch.setattr("importlib.util.find_spec", find)

    with pytest.raises(PartMissing, match=r"Not installed: ministack; run"):
        plan.check(LocalOptions(no_llm=True, port=1), {})


def test_a_backend_that_is_not_there_is_told() -> None:
    with pytest.raises(PartMissing, match="Nothing listens at http"):
        plan.check(LocalOptions(backend="http://127.0.0.1:1"), {})
