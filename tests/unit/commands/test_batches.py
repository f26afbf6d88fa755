"""What a person sees of a batch."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from inferline.commands import batches, gateway
from inferline.commands.batches import AWAY_SECONDS_MAX, progress_line
from inferline.commands.gateway import NoAnswerError
from inferline.commands.progress import bar, duration


def batch(**changes: Any) -> dict[str, Any]:
    counts = {"total": 1000, "completed": 240, "failed": 10}
    given = {"status": "in_progress", "request_counts": counts, "in_progress_at": 1000}
    return given | changes


def test_a_running_batch_has_a_rate_and_an_expected_end() -> None:
    line = progress_line(batch(), 1050)

    assert line.startswith("in_progress ██████░░░░░░░░░░░░░░░░░░  25 %")
    assert line.endswith("250 of 1,000 lines, 10 failed, 5 a second, about 2 min 30 s left")


def test_a_batch_that_is_not_running_has_no_rate() -> None:
    counts = {"total": 0, "completed": 0, "failed": 0}
    line = progress_line(batch(status="validating", request_counts=counts), 1050)

    assert "second" not in line
    assert "  0 %" in line


def test_a_full_bar_is_full_only_when_all_is_done() -> None:
    assert bar(999, 1000).endswith(" 99 %")
    assert bar(1000, 1000) == "█" * 24 + " 100 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_time_has_two_units(seconds: float, text: str) -> None:
    assert text == duration(seconds)


def create(path: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the command `create`, and return the addresses that it posts to."""
    posted: list[str] = []

    def post(_: object, path: str, *args: object, **kwargs: object) -> dict[str, Any]:
        posted.append(path.rpartition("/")[2])
        return {"id": "an-id", "file": {"id": "file-id"}}

    monkeypatch.setattr(batches.GatewayApi, "post", post)
    parser = argparse.ArgumentParser()
    batches.add_batches(parser, {})
    options = parser.parse_args(["create", path])
    assert options.run(options) == 0
    return posted


def test_a_local_file_may_have_a_name_that_begins_like_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file-lines.jsonl").write_text("{}\n")

    assert create("file-lines.jsonl", monkeypatch) == ["uploads", "parts", "complete", "batches"]
    assert create(f"file-{26 * '0'}", monkeypatch) == ["batches"]


def test_an_empty_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.jsonl").touch()
    parser = argparse.ArgumentParser()
    batches.add_batches(parser, {})
    options = parser.parse_args(["upload", str(tmp_path / "lines.jsonl")])

    assert options.run(options) == 1
    assert "lines.jsonl is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"message": "Should be 1.", "param": "query.limit"}, "query.limit: Should be 1."),
        ({"message": "`url` should be 1.", "param": "url"}, "`url` should be 1."),
        ({"message": "No.", "param": None}, "No."),
        ({"message": "No."}, "No."),
        ("No.", "Bad Request"),
        ([], "Bad Request"),
    ],
)
def test_a_refusal_names_the_field(error: Any, text: str) -> None:
    body = io.BytesIO(json.dumps({"error": error}).encode())
    refusal = urllib.error.HTTPError("http://x", 400, "Bad Request", Message(), body)

    assert gateway._message(refusal) == text


class Flaky:
    """A gateway whose answers about a batch are scripted; None: it does not answer."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.answers = list(answers)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if answer is None:
            raise NoAnswerError("the gateway is away")
        return answer


def watch(api: Any, seconds: float) -> int:
    """Watch a batch, with pauses that last so long."""
    time = [1000.0]

    def sleep(_: float) -> None:
        time[0] += seconds

    options = argparse.Namespace(id="batch_x", json=True)
    return batches._watch(api, options, sleep, lambda: time[0])


def test_a_gateway_may_be_restarted_while_a_batch_is_watched() -> None:
    assert watch(Flaky(batch(), None, None, batch(status="completed")), 2.0) == 0


def test_a_watch_ends_if_the_gateway_stays_away() -> None:
    with pytest.raises(NoAnswerError):
        watch(Flaky(batch(), None, batch(), None, None), AWAY_SECONDS_MAX * 2 / 3)
    with pytest.raises(NoAnswerError):
        watch(Flaky(None), 2.0)


def test_a_reader_that_has_enough_is_no_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "inferline", "settings"]
    with os.fdopen(writes, "wb") as out:
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60)

    assert (ended.returncode, ended.stderr) == (1, b"")
