"""What `docs/deploying.md` says of the stack is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inferline.options import Option, options_of
from infra.options import Options
from tests.support.tables import renewed

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/deploying.md").read_text()


@pytest.mark.parametrize("option", options_of(Options), ids=lambda option: option.name)
def test_the_manual_lists_each_option_with_its_default(option: Option) -> None:
    default = option.default
    text = json.dumps(default) if isinstance(default, bool) else str(default)
    shown = f"`{text}`" if default not in ("", ()) else "none"

    assert f"| `{option.name}` | {shown} | {option.sentences} |" in MANUAL.splitlines()


def test_the_table_in_the_manual_has_nothing_else() -> None:
    """`make docs` renews it."""
    assert renewed("docs/deploying.md") == MANUAL


def test_the_manual_names_each_alarm_and_no_other() -> None:
    code = (ROOT / "infra/monitoring.py").read_text()
    made = set(re.findall(r'self\._alarm\(\s*"([a-z-]+)"', code))

    names = set(re.findall(r"^\| `<stack>-([a-z-]+)` \|", MANUAL, re.MULTILINE))

    assert made == names


def test_the_manual_names_no_target_of_make_that_is_not_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z][a-z-]+)\b", MANUAL)) <= targets
