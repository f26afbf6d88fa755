"""What an operator sees of a real line in a terminal."""

from __future__ import annotations

import subprocess
import sys

import httpx

from tests.support.line import MODEL, Line, running_line, until


def printed(line: Line) -> str:
    """Return what the command prints, blanks as one."""
    command = [sys.executable, "-m", "inferline", "status"]
    environ = {**line.environ, "INFERLINE_BASE_URL": f"{line.url}/v1"}
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert 0 == run.returncode, run.stderr
    return "\n".join(" ".join(row.split()) for row in run.stdout.splitlines())


def test_an_answer_is_seen_in_the_status_with_what_it_cost() -> None:
    body = {"model": MODEL, "messages": [], "stream": True}
    with running_line() as line:
        answer = httpx.post(f"{line.url}/v1/chat/completions", json=body, timeout=60)
        assert 200 == answer.status_code

        text = until(lambda: (text := printed(line)).count(f"\n{MODEL} 1 0 ") and text, "a minute")

    assert f"\n{MODEL} all 0 0 - 1 4" in text
    assert "\np1 yes " in text
    assert "\nsqs:SendMessage 1 1" in text
    assert "\ndynamodb:PutItem " in text
