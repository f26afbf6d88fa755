"""The figures of isolation are made of samples alone, and the worst company stands for all."""

from __future__ import annotations

from typing import Any

from bench.failures.isolation import ALONE, FAILURES, MORE_GOOD, tell
from bench.harness.stack import OURS, PEER


def blocks(answers: int, ms: float) -> list[dict[str, Any]]:
    same = {"seconds": 1.0, "failed": 0, "statuses": {"500": 2}}
    return [{**same, "answers": answers, "total": [ms] * answers}]


def raw(worst: int) -> dict[str, Any]:
    by_who = {who: blocks(10, 100.0) for who in (ALONE, *FAILURES)}
    by_who[MORE_GOOD] = blocks(20, 100.0)
    by_who["429"] = blocks(worst, 200.0)
    both = {who: {OURS: runs, PEER: runs} for who, runs in by_who.items()}
    stream = {name: {"nothing": [[0.1, 0.1]], "500": [[0.1, 9.0]]} for name in (OURS, PEER)}
    return {"blocks": {"0.5 s": both}, "stream": stream}


def test_the_worst_company_decides_whether_the_goals_are_met() -> None:
    goals = tell(raw(worst=8))[0]

    shown = {row[0]: (row[2], row[3]) for row in goals.rows}
    assert [("0.80 (429)", "NOT MET"), ("2.00 (429)", "NOT MET"), ("1.00 (100 ms)", "met")] == [
        *shown.values()
    ]


def test_eight_good_clients_are_compared_by_the_share_of_four() -> None:
    _, table, _ = tell(raw(worst=10))

    shares = {(row[0], row[1]): row[3] for row in table.rows}
    assert "1.00" == shares[MORE_GOOD, OURS]
    assert "1.00" == shares["4 whose answer is 429", OURS]
