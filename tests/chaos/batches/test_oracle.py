"""What the oracle of batches says of files that are right, and of those that are not."""

from __future__ import annotations

import json
from typing import Any

from tests.chaos.batches.oracle import Line, judge_batch

ANSWERED = Line("r1", tokens=2, interval=0.0)
REFUSED = Line("r2", tokens=2, interval=0.0, status=400)
LINES = (ANSWERED, REFUSED)


def answer(name: str, tokens: int = 2, run: str = "s1") -> dict[str, Any]:
    text = "".join(f" {name}.b1.{run}.{number}" for number in range(tokens))
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    return {"choices": [choice], "usage": usage}


def row(name: str, status: int, body: dict[str, Any], id: str = "") -> dict[str, Any]:
    response = {"status_code": status, "request_id": "q", "body": body}
    return {"id": id or name, "custom_id": name, "response": response, "error": None}


def wrongs(output: list[Any], error: list[Any], status: str = "completed") -> list[str]:
    counts = {"total": 2, "completed": len(output), "failed": len(error)}
    batch = {"status": status, "errors": None, "request_counts": counts}
    files = ["".join(json.dumps(each) + "\n" for each in rows).encode() for rows in (output, error)]
    return judge_batch(LINES, batch, *files).wrongs


GOOD = row("r1", 200, answer("r1"))
BAD = row("r2", 400, {"error": {"message": "no"}})


def test_two_files_with_each_line_once_are_right() -> None:
    assert [] == wrongs([GOOD], [BAD])


def test_a_missing_line_is_wrong() -> None:
    assert any("r2 missing" in wrong for wrong in wrongs([GOOD], []))


def test_a_line_in_both_files_is_wrong() -> None:
    again = {**GOOD, "id": "another", "response": None, "error": {"code": "provider_lost"}}
    assert any("r1 2 times" in wrong for wrong in wrongs([GOOD], [BAD, again]))


def test_an_answer_of_two_runs_that_know_nothing_of_each_other_is_wrong() -> None:
    torn = answer("r1", 1)
    torn["choices"][0]["message"]["content"] += " r1.b2.s2.1"
    torn["usage"] = answer("r1")["usage"]

    assert wrongs([row("r1", 200, torn)], [BAD])


def test_an_unanswered_line_is_right_only_if_its_providers_were_lost() -> None:
    lost = {"id": "x", "custom_id": "r2", "response": None, "error": {"code": "provider_lost"}}
    expired = {**lost, "error": {"code": "batch_expired"}}

    assert [] == wrongs([GOOD], [lost])
    assert wrongs([GOOD], [expired])


def test_a_batch_that_did_not_complete_is_wrong() -> None:
    assert wrongs([GOOD], [BAD], status="failed")
