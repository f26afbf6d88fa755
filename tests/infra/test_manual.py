"""What `docs/deploying.md` says of the stack is so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from infra.switches import Switches

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/deploying.md").read_text()


@pytest.mark.parametrize("spec", fields(Switches), ids=lambda spec: spec.name)
def test_the_manual_tells_of_each_switch_with_its_default(spec: object) -> None:
    default = getattr(spec, "default")  # noqa: B009
    shown = json.dumps(default) if isinstance(default, bool) else str(default)
    told = f"`{shown}`" if default not in ("", ()) else "none"

    row = f"| `{getattr(spec, 'name')}` | {told} | {getattr(spec, 'metadata')['doc']} |"  # noqa: B009

    assert row in MANUAL.splitlines()


def test_the_manual_names_each_alarm_and_no_other() -> None:
    code = (ROOT / "infra/monitoring.py").read_text()
    made = set(re.findall(r'self\._alarm\(\s*"([a-z-]+)"', code))

    told = set(re.findall(r"^\| `<stack>-([a-z-]+)` \|", MANUAL, re.MULTILINE))

    assert made == told


def test_the_manual_names_no_target_of_make_that_is_not_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z][a-z-]+)\b", MANUAL)) <= targets
