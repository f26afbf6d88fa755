"""The manual for operators of GPU hosts is right: the settings, and the systemd unit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inferline.options import options_of
from inferline_provider.settings import ProviderSettings
from tests.support.tables import renewed

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "provider/inferline-provider@.service"
MANUAL = ROOT / "docs/running-a-provider.md"


def test_the_manual_lists_every_setting_with_its_default_and_no_other() -> None:
    """`make docs` renews the table."""
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `([A-Z0-9_]+)` \|", MANUAL.read_text(), re.MULTILINE)

    assert {option.flag: option.variable for option in options_of(ProviderSettings)} == dict(rows)
    assert renewed("docs/running-a-provider.md") == MANUAL.read_text()


def test_every_flag_has_a_variable() -> None:
    assert all(option.flag and option.variable for option in options_of(ProviderSettings))


def test_the_manual_sets_nothing_that_the_provider_does_not_know() -> None:
    named = set(re.findall(r"^([A-Z][A-Z_]+)=", MANUAL.read_text(), re.MULTILINE))

    assert named <= {option.variable for option in options_of(ProviderSettings)}


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs systemd-analyze")
        pytest.skip("systemd-analyze is not installed")
    # It wants the program to be there.
    text = UNIT.read_text().replace("/opt/inferline/bin/inferline-provider", "/bin/true")
    unit = tmp_path / "inferline-provider@vllm.service"
    unit.write_text(text)

    command = [verify, "verify", "--man=no", str(unit)]
    checked = subprocess.run(command, capture_output=True, text=True)

    assert (0, "") == (checked.returncode, checked.stderr)


def test_the_unit_waits_longer_than_a_stop_takes() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)

    # A long poll of 20 s and 30 s to drain, as the provider's defaults are.
    assert int(seconds) >= 20 + 30
    assert f"--stop-timeout {seconds}" in MANUAL.read_text()
