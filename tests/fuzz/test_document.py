"""The gateway does what its OpenAPI document says and refuses what that rules out."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.fuzzing import SEED, TIMES, log, tried
from tests.support.served import Served, served

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venv-schemathesis" / "bin" / "schemathesis"
CONFIG = Path(__file__).with_name("schemathesis.toml")
#: Of each route's random requests, besides those that the document itself leads to.
EXAMPLES = 10
RUN_SECONDS_MAX = 300.0

pytestmark = pytest.mark.skipif(
    not SCHEMATHESIS.exists() and not os.environ.get("CI"),
    reason="schemathesis is missing: make install",
)


def check(gateway: Served, folder: Path, what: str, *options: str, **keys: str) -> None:
    """Have schemathesis find nothing, with keys for callers by their role."""
    config = folder / "schemathesis.toml"
    shown = "".join(f'\n[auth.openapi.{role}]\nbearer = "{key}"\n' for role, key in keys.items())
    config.write_text(CONFIG.read_text() + shown)
    document = folder / "openapi.json"
    headers = [(b"Authorization", b"Bearer " + keys["client"].encode())] if keys else []
    document.write_bytes(gateway.ask(what, "GET", b"/openapi.json", headers=headers).body)
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--no-color", "--config-file", config, "run", document),
            *("--url", gateway.url, "--seed", str(SEED)),
            *("--max-examples", str(EXAMPLES * TIMES), "--continue-on-failure", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX * TIMES,
    )

    assert 0 == done.returncode, done.stdout[-20_000:] + done.stderr
    [count] = re.findall(r"([\d,]+) generated", done.stdout)
    tried[what] += int(count.replace(",", ""))
    assert [] == log.taken()


def test_a_gateway_without_keys_does_what_its_document_says(tmp_path: Path) -> None:
    """Without the coverage of each schema, which is the same with keys."""
    with served() as gateway:
        phases = "--phases", "examples,fuzzing,stateful"
        check(gateway, tmp_path, "schemathesis, without keys", *phases)


def test_a_gateway_with_keys_does_what_its_document_says(tmp_path: Path) -> None:
    with served(access="keys") as gateway:
        client, provider, admin = map(gateway.key, ("client", "provider", "admin"))
        keys = {"client": client, "provider": provider, "admin": admin}

        # Who manages keys may take back the others' under way: they come last.
        check(gateway, tmp_path, "schemathesis, with keys", "--exclude-tag", "keys", **keys)
        check(gateway, tmp_path, "schemathesis, with keys", "--include-tag", "keys", **keys)
