"""Scanners for what makes code insecure, and why some of what they find stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCANNERS = ROOT / ".venv-scanners" / "bin"
RULES = ROOT / "tests/semgrep"
#: What runs at users and on AWS, and what is there for work on it.
PRODUCT = ("inferline", "provider", "functions", "infra")
WORK = ("tests", "bench")
#: Neither asks anybody outside, and no rule is fetched.
SEMGREP = (
    *(SCANNERS / "semgrep", "scan", "--config", RULES, "--metrics", "off"),
    *("--disable-version-check", "--jobs", "2", "--quiet", "--json"),
)

#: Bandit's findings in the product, each with the reason why it stays.
FOUND: dict[str, str] = {}
#: And in tests and measurements.
FOUND_AT_WORK: dict[str, str] = {}

pytestmark = [
    pytest.mark.skipif(
        not SCANNERS.exists() and not os.environ.get("CI"),
        reason="the scanners are missing: make install",
    )
]


def ran(*command: Any, cwd: Path = ROOT) -> Any:
    """What a scanner reports."""
    environ = {**os.environ, "SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
    # A proxy where nobody is: whoever asks outside fails.
    environ |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, timeout=170
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert [] == report["errors"]
    return report


def bandit(*folders: str) -> Iterator[tuple[str, str]]:
    """Each finding's rule and place."""
    command = (SCANNERS / "bandit", "--format", "json", "--quiet", "--recursive")
    for found in ran(*command, "--exclude", "tests/semgrep,*/node_modules", *folders)["results"]:
        yield found["test_id"], f"{found['filename']}:{found['line_number']}"


@pytest.mark.parametrize(("folders", "known"), [(PRODUCT, FOUND), (WORK, FOUND_AT_WORK)])
def test_bandit_finds_nothing_but_what_has_its_reason(
    folders: tuple[str, ...], known: dict[str, str]
) -> None:
    found = list(bandit(*folders))

    assert known.keys() == {rule for rule, _ in found}, found


def test_our_own_rules_find_nothing() -> None:
    report = ran(*SEMGREP, "--exclude", "node_modules", *PRODUCT, "dashboard")

    assert [] == [
        (one["check_id"].rpartition(".")[2], f"{one['path']}:{one['start']['line']}")
        for one in report["results"]
    ]
    scanned = set(report["paths"]["scanned"])
    wanted = [*(f"{folder}/**/*.py" for folder in PRODUCT), "dashboard/*.js"]
    assert {str(p.relative_to(ROOT)) for glob in wanted for p in ROOT.glob(glob)} <= scanned


def test_each_rule_finds_what_it_is_for_and_nothing_else(tmp_path: Path) -> None:
    # Where every rule looks.
    shutil.copytree(RULES, tmp_path / "inferline/gateway", ignore=shutil.ignore_patterns("*.yml"))

    report = ran(*SEMGREP, ".", cwd=tmp_path)

    found: dict[tuple[str, str], set[int]] = {}
    for one in report["results"]:
        rule = one["check_id"].rpartition(".")[2]
        found.setdefault((rule, Path(one["path"]).name), set()).add(one["start"]["line"])
    assert expected("ruleid") == found
    for place, lines in expected("ok").items():
        assert not lines & found.get(place, set())
    rules = {match for path in RULES.glob("*.yml") for match in ids(path)}
    assert rules == {rule for rule, _ in expected("ruleid")} == {rule for rule, _ in expected("ok")}


def ids(path: Path) -> list[str]:
    return re.findall(r"^  - id: (\S+)$", path.read_text(), re.MULTILINE)


def expected(mark: str) -> dict[tuple[str, str], set[int]]:
    """The lines of the rules' examples that are marked, by rule and file."""
    found: dict[tuple[str, str], set[int]] = {}
    for path in [*RULES.glob("*.py"), *RULES.glob("*.js")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := re.search(rf"(?:#|//) {mark}: (.+)$", line):
                for rule in match[1].split(", "):
                    found.setdefault((rule, path.name), set()).add(number + 1)
    return found
