"""
The demo of docker/ in a real engine.

Where no engine answers it skips, on CI too: an engine is a machine's, not a tool that the project
could bring along. There `tests/docker/demo.sh` is run by itself, wherever Docker is.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from inferline.local import model

ROOT = Path(__file__).parents[2]
JOINING = {
    "INFERLINE_BASE_URL": "https://router.example.com",
    "INFERLINE_PROVIDER_TOKEN": "",
    "PROVIDER_ID": "one",
}


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "compose", "version"], ["docker", "info"]
    return all(
        not subprocess.run(one, capture_output=True, timeout=30).returncode for one in command
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


def shown(file: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `docker compose config` makes of a file; it needs no engine."""
    if (
        shutil.which("docker") is None
        or subprocess.run(
            ["docker", "compose", "version"], capture_output=True, timeout=30
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    command = ["docker", "compose", "--env-file", os.devnull, "-f", ROOT / "docker" / file]
    environ = {k: v for k, v in os.environ.items() if k not in JOINING} | variables
    return subprocess.run(
        [*command, "--profile", "*", "config", "--quiet"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["local-demo", "tinyllama", "vllm"])
def test_compose_takes_the_file_as_it_is(name: str) -> None:
    ran = shown(f"docker-compose-{name}.yml", **JOINING)

    assert (0, "") == (ran.returncode, ran.stderr)


@pytest.mark.parametrize("name", ["tinyllama", "vllm"])
@pytest.mark.parametrize("missing", ["INFERLINE_BASE_URL", "INFERLINE_PROVIDER_TOKEN"])
def test_compose_asks_for_what_is_missing(name: str, missing: str) -> None:
    given = {key: value for key, value in JOINING.items() if key != missing}

    ran = shown(f"docker-compose-{name}.yml", **given)

    assert ran.returncode != 0
    assert f"Set {missing} to " in ran.stderr
