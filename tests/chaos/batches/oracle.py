"""Judges what came of a batch: every line once, in one of the two files, and well answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.backend import MODEL
from tests.chaos.oracle import Heard, judge

Json = dict[str, Any]

PATH = "/v1/chat/completions"
#: Why a line may have no answer: it was begun in three attempts that were lost.
LOST = "provider_lost"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch: the request of that name, and how many tokens its answer has."""

    name: str
    tokens: int
    interval: float
    #: The status with which the backend refuses it; None: it answers.
    status: int | None = None

    def text(self) -> str:
        """Return the line of the input file."""
        script = {"tokens": self.tokens, "interval": self.interval}
        if self.status is not None:
            script["status"] = self.status
        messages = [{"role": "user", "content": "p"}]
        body = {"model": MODEL, "user": self.name, "messages": messages, "x_script": script}
        line = {"custom_id": self.name, "method": "POST", "url": PATH, "body": body}
        return json.dumps(line) + "\n"


@dataclass(slots=True)
class Verdict:
    """Verdict on a batch."""

    answered: int = 0
    refused: int = 0
    #: Lines without an answer, by the code of their error.
    unanswered: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)


def judge_batch(
    lines: Iterable[Line], batch: Mapping[str, Any], output: bytes, error: bytes
) -> Verdict:
    """Return what is right and wrong with a batch that has ended, and its two files."""
    verdict, expected = Verdict(), {line.name: line for line in lines}
    if batch["status"] != "completed":
        verdict.wrongs.append(f"the batch is {batch['status']}: {batch['errors']}")
        return verdict
    rows = [(row, True) for row in _rows(output)] + [(row, False) for row in _rows(error)]
    times = Counter(row["custom_id"] for row, _ in rows)
    verdict.wrongs += [f"{name} missing" for name in expected.keys() - times.keys()]
    verdict.wrongs += [f"{name} that nobody asked for" for name in times.keys() - expected.keys()]
    verdict.wrongs += [f"{name} {count} times" for name, count in times.items() if count > 1]
    for row, is_output in rows:
        if row["custom_id"] in expected:
            _judge_row(verdict, expected[row["custom_id"]], row, is_output=is_output)
    if len({row["id"] for row, _ in rows}) < len(rows):
        verdict.wrongs.append("an id twice")
    _judge_counts(verdict, batch, len(expected), sum(is_output for _, is_output in rows))
    return verdict


def _judge_row(verdict: Verdict, line: Line, row: Json, *, is_output: bool) -> None:
    response, wrongs = row["response"], []
    if response is None:
        verdict.unanswered[row["error"]["code"]] += 1
        wrongs += ["without an answer, in the output"] if is_output else []
        wrongs += [f"ended by {row['error']}"] if row["error"]["code"] != LOST else []
    elif response["status_code"] == 200:
        verdict.answered += 1
        heard = Heard(200, "application/json", json.dumps(response["body"]).encode(), whole=True)
        outcome = judge(heard, line.name, line.tokens, streamed=False)
        wrongs += outcome.wrongs
        wrongs += [] if outcome.end == "ok" and is_output else [f"{outcome.end} in a file"]
        wrongs += [] if line.status is None else ["answered, though it is to be refused"]
    else:
        verdict.refused += 1
        wrongs += ["refused, in the output"] if is_output else []
        if response["status_code"] != line.status or "error" not in response["body"]:
            wrongs.append(f"refused with {response}")
    verdict.wrongs += [f"{line.name} {wrong}" for wrong in wrongs]


def _judge_counts(verdict: Verdict, batch: Mapping[str, Any], total: int, completed: int) -> None:
    counts = {"total": total, "completed": completed, "failed": total - completed}
    if batch["request_counts"] != counts:
        verdict.wrongs.append(f"counts {batch['request_counts']} of {counts}")


def _rows(content: bytes) -> list[Json]:
    return [json.loads(line) for line in content.split(b"\n")[:-1]]
