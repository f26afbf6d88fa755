"""Scanners for what makes code insecure, and why some of what they find stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
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
    *("--disable-version-check", "--jobs", "1", "--quiet", "--json"),
)

#: Where bandit finds what in the product, and why it stays.
FOUND: dict[str, tuple[str, tuple[str, ...]]] = {
    "B101": ("An assert states what holds; it checks no input.", PRODUCT),
    "B104": (
        "It is read there, and bound nowhere.",
        ("inferline/local/options.py",),
    ),
    "B105": (
        "Names of settings and headers, and the words of a message, are no passwords.",
        (
            "inferline/local/plan.py",
            "provider/inferline_provider/spot.py",
        ),
    ),
    "B106": ("An emulator takes any.", ("infra/inventory.py",)),
    "B107": (
        "An empty one is none.",
        ("inferline/gateway/routes/access.py", "provider/inferline_provider/enrolment.py"),
    ),
    "B310": (
        "The address is the operator's, CloudFormation's or a constant, and never a client's.",
        ("functions/publisher.py", "inferline/local/weights.py"),
    ),
    "B311": (
        "It spreads pauses, and tells traces apart.",
        ("inferline/telemetry/trace.py", "provider/inferline_provider"),
    ),
    "B314": ("AWS's answers; Python's parser loads nothing.", ("inferline/aws/api/responses.py",)),
    "B404": ("They start the parts of a line, and tools.", ("inferline/local", "infra")),
    "B405": ("As B314.", ("inferline/aws/api/responses.py",)),
    "B603": ("Without a shell, from lists that are ours.", ("inferline/local", "infra")),
}
#: And in tests and measurements, of which nothing is shipped.
FOUND_AT_WORK: dict[str, tuple[str, tuple[str, ...]]] = {
    "B101": ("It is what a test is made of.", WORK),
    "B104": ("They test who is warned of it.", ("tests",)),
    "B105": ("Made up.", WORK),
    "B106": ("Made up.", ("tests",)),
    "B310": ("Addresses of their own servers.", ("tests",)),
    "B311": ("Chance that can be drawn again.", WORK),
    "B404": ("They start what they test.", WORK),
    "B603": ("Without a shell, from lists of their own.", WORK),
    "B607": ("Tools are where the machine has them.", ("tests",)),
    "B615": ("The model lies in a folder here.", ("tests/interop/models",)),
}

pytestmark = [
    pytest.mark.skipif(
        not SCANNERS.exists() and not os.environ.get("CI"),
        reason="the scanners are missing: make install",
    )
]


def ran(*command: Any, cwd: Path = ROOT) -> Any:
    """Return what a scanner reports."""
    environ = {**os.environ, "SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
    # A proxy where nobody is: whoever asks outside fails.
    environ |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, timeout=500
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert [] == report["errors"]
    return report


@pytest.mark.parametrize(("folders", "known"), [(PRODUCT, FOUND), (WORK, FOUND_AT_WORK)])
def test_bandit_finds_nothing_but_what_has_its_reason(
    folders: tuple[str, ...], known: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    command = (SCANNERS / "bandit", "--format", "json", "--quiet", "--recursive")
    report = ran(*command, "--exclude", "tests/semgrep,*/node_modules/*", *folders)

    expected = {(rule, place) for rule, (_, places) in known.items() for place in places}
    findings = {(one["test_id"], one["filename"]) for one in report["results"]}
    is_within = {
        (rule, place): {
            file for of, file in findings if of == rule and f"{file}/".startswith(place)
        }
        for rule, place in expected
    }
    assert findings == {(rule, file) for (rule, _), files in is_within.items() for file in files}
    assert [] == [reason for reason, files in is_within.items() if not files]


def test_our_own_rules_find_nothing() -> None:
    report = ran(*SEMGREP, "--exclude", "node_modules", *PRODUCT, "dashboard")

    assert [] == [
        (one["check_id"].rpartition(".")[2], f"{one['path']}:{one['start']['line']}")
        for one in report["results"]
    ]
    scanned = set(report["paths"]["scanned"])
    wanted = [*(f"{folder}/**/*.py" for folder in PRODUCT), "dashboard/*.js"]
    ours = (path for glob in wanted for path in ROOT.glob(glob) if "node_modules" not in path.parts)
    assert {str(path.relative_to(ROOT)) for path in ours} <= scanned


def test_each_rule_finds_what_it_is_for_and_nothing_else(tmp_path: Path) -> None:
    # Where every rule looks.
    shutil.copytree(RULES, tmp_path / "inferline/gateway", ignore=shutil.ignore_patterns("*.yml"))

    report = ran(*SEMGREP, ".", cwd=tmp_path)

    findings: dict[tuple[str, str], set[int]] = {}
    for one in report["results"]:
        rule = one["check_id"].rpartition(".")[2]
        findings.setdefault((rule, Path(one["path"]).name), set()).add(one["start"]["line"])
    assert expected("ruleid") == findings
    for place, lines in expected("ok").items():
        assert not lines & findings.get(place, set())
    rules = {match for path in RULES.glob("*.yml") for match in ids(path)}
    assert rules == {rule for rule, _ in expected("ruleid")} == {rule for rule, _ in expected("ok")}


def ids(path: Path) -> list[str]:
    return re.findall(r"^  - id: (\S+)$", path.read_text(), re.MULTILINE)


def expected(mark: str) -> dict[tuple[str, str], set[int]]:
    """Return the lines of the rules' examples that are marked, by rule and file."""
    lines: dict[tuple[str, str], set[int]] = {}
    for path in [*RULES.glob("*.py"), *RULES.glob("*.js")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := re.search(rf"(?:#|//) {mark}: (.+)$", line):
                for rule in match[1].split(", "):
                    lines.setdefault((rule, path.name), set()).add(number + 1)
    return lines
