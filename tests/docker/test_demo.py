"""
The demo of docker/ in a real engine.

Where no engine answers it skips, on CI too: an engine is a machine's, not a tool that the project
could bring along. There `tests/docker/demo.sh` is run by itself, wherever Docker is.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inferline.local.llm import model

ROOT = Path(__file__).parents[2]
JOINING = {
    "INFERLINE_BASE_URL": "https://router.example.com",
    "INFERLINE_PROVIDER_TOKEN": "",
    "PROVIDER_ID": "one",
}
#: What the machine that tests may have set, and the tests set themselves.
SETTABLE = {
    *JOINING,
    "METRICS_ADDRESS",
    "METRICS_PORT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
}
#: The services that export spans.
TRACED = {"gateway", "dashboard", "provider", "ollama-provider"}


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "compose", "version"], ["docker", "info"]
    return all(
        not subprocess.run(one, capture_output=True, timeout=60).returncode for one in command
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.mark.timeout(1200)
def test_the_demo_runs_as_its_manual_says() -> None:
    if not engine_answers():
        pytest.skip("no Docker engine answers; tests/docker/demo.sh runs this test's commands")
    weights = model.find(os.environ) or model.fetch(os.environ, lambda _: None)
    gateway, dashboard, llm = map(str, free_ports(3))
    environ = os.environ | {
        "MODELS": str(weights.parent),
        "MODEL_FILE": weights.name,
        "MODEL_SHA256": model.FILE_SHA256,
        "GATEWAY_PORT": gateway,
        "DASHBOARD_PORT": dashboard,
        "LLM_PORT": llm,
    }

    ran = subprocess.run(
        [ROOT / "tests/docker/demo.sh"], env=environ, capture_output=True, text=True, timeout=1100
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def shown(
    *files: str, folder: Path = ROOT / "docker", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Return what `docker compose config` makes of these files; it needs no engine."""
    if (
        shutil.which("docker") is None
        or subprocess.run(
            ["docker", "compose", "version"], capture_output=True, timeout=60
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    command = ["docker", "compose", "--env-file", os.devnull, "--profile", "*"]
    for file in files:
        command += ["-f", str(folder / f"docker-compose-{file}.yml")]
    environ = {k: v for k, v in os.environ.items() if k not in SETTABLE} | variables
    return subprocess.run(
        [*command, "config", "--format", "json"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def config_of(*files: str, folder: Path = ROOT / "docker", **variables: str) -> dict[str, Any]:
    """Return the services of these files, as compose would start them."""
    ran = shown(*files, folder=folder, **JOINING | variables)
    assert (0, "") == (ran.returncode, ran.stderr)
    services: dict[str, Any] = json.loads(ran.stdout)["services"]
    return services


@pytest.mark.parametrize(
    "files",
    [
        ("local-demo",),
        ("tinyllama",),
        ("vllm",),
        ("tinyllama", "join-demo"),
        ("local-demo", "metrics"),
        ("tinyllama", "metrics"),
        ("vllm", "metrics"),
    ],
    ids="+".join,
)
def test_compose_takes_the_files_as_they_are(files: tuple[str, ...]) -> None:
    assert "provider" in config_of(*files)


@pytest.mark.parametrize("name", ["local-demo", "tinyllama", "vllm"])
def test_where_traces_go_is_told_to_whoever_has_some(name: str) -> None:
    traces = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://host.docker.internal:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=secret",
    }

    services = config_of(name, **traces)

    knowing = {
        service
        for service, one in services.items()
        if traces.items() <= one.get("environment", {}).items()
    }
    assert {service for service in services if service in TRACED} == knowing


@pytest.mark.parametrize("name", ["local-demo", "tinyllama", "vllm"])
def test_a_provider_opens_a_port_only_if_it_is_asked_to(name: str) -> None:
    def port(**variables: str) -> str | None:
        chosen: str | None = config_of(name, **variables)["provider"]["environment"]["METRICS_PORT"]
        return chosen

    assert port() is None
    assert "9200" == port(METRICS_PORT="9200")


@pytest.mark.parametrize("name", ["local-demo", "tinyllama", "vllm"])
def test_metrics_are_let_out_at_the_port_that_the_provider_opens(name: str) -> None:
    def opened(**variables: str) -> tuple[str, str, str, int]:
        provider = config_of(name, "metrics", **variables)["provider"]
        (port,) = provider["ports"]
        metrics_port = provider["environment"]["METRICS_PORT"]
        return metrics_port, port["host_ip"], port["published"], port["target"]

    assert ("9101", "127.0.0.1", "9101", 9101) == opened()
    assert ("9200", "10.0.0.1", "9200", 9200) == opened(
        METRICS_PORT="9200", METRICS_ADDRESS="10.0.0.1"
    )


def test_settings_of_a_gateway_and_of_a_provider_come_from_files_of_their_own(
    tmp_path: Path,
) -> None:
    for file in (ROOT / "docker").glob("docker-compose-*.yml"):
        shutil.copy(file, tmp_path)
    (tmp_path / ".env.gateway").write_text("INFERLINE_DEPTH_MAX=3\nAWS_ENDPOINT_URL=http://else\n")
    (tmp_path / ".env.provider").write_text("ALIASES=a=b\nOTEL_SERVICE_NAME=mine\n")

    services = config_of("local-demo", folder=tmp_path)

    own = {"ALIASES": "a=b", "OTEL_SERVICE_NAME": "mine"}
    for gateway in ("gateway", "dashboard"):
        assert "3" == services[gateway]["environment"]["INFERLINE_DEPTH_MAX"]
        assert "http://emulator:4566" == services[gateway]["environment"]["AWS_ENDPOINT_URL"]
        assert not own.keys() & services[gateway]["environment"].keys()
    assert own.items() <= services["provider"]["environment"].items()
    assert "INFERLINE_DEPTH_MAX" not in services["provider"]["environment"]


@pytest.mark.parametrize("name", ["tinyllama", "vllm"])
@pytest.mark.parametrize("missing", ["INFERLINE_BASE_URL", "INFERLINE_PROVIDER_TOKEN"])
def test_compose_asks_for_what_is_missing(name: str, missing: str) -> None:
    given = {key: value for key, value in JOINING.items() if key != missing}

    ran = shown(name, **given)

    assert ran.returncode != 0
    assert f"Set {missing} to " in ran.stderr
