"""A profile tells where a process was when it was interrupted, and who had called that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from bench.harness.sampled import WRITE_SAMPLES, Sampler, read, table

ROOT = Path(__file__).parents[3]


def here() -> FrameType:
    return sys._getframe()


def test_a_sample_is_its_function_and_all_that_called_it(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / "profile.json")

    for _ in range(WRITE_SAMPLES):
        sampler.see(signal.SIGPROF, here())

    profile = read(tmp_path / "profile.json")
    ours = {
        name.split()[1]: count for name, count in profile["within"].items() if "sampled" in name
    }
    assert WRITE_SAMPLES == profile["samples"] == ours["here"]
    assert {"bench/test_sampled.py here": WRITE_SAMPLES} == profile["own"]


def test_a_profile_shows_shares() -> None:
    profile = {"samples": 4, "own": {"a": 3, "b": 1}, "within": {"a": 3, "b": 4}}

    assert [["a", "75.0", "75.0"], ["b", "25.0", "100.0"]] == table("p", profile).rows


def test_a_module_that_is_sampled_runs_as_it_would_alone(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, "-m", "bench.harness.sampled", str(out), "json.tool", "--compact"]

    done = subprocess.run(command, input="[1, 2]", capture_output=True, text=True, cwd=ROOT)

    assert (0, "[1,2]\n") == (done.returncode, done.stdout)
    assert "samples" in json.loads(out.read_text())


def test_what_was_never_written_is_empty(tmp_path: Path) -> None:
    assert {} == read(tmp_path / "profile.json")
