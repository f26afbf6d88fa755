"""What is said of automatic slots is made of the raw data as it says, misses included."""

from __future__ import annotations

import json
from typing import Any

from bench.autoslots.compare import run_aimd
from bench.autoslots.scenes import BOUND, MADE_SECONDS, SCENES, STORIES, Run, run_scene
from bench.autoslots.tables import best, firsts, late, rate, reached, slots_of, swept, tell
from bench.report import Table

SCENE = "collapse beyond 24"
STORY = "the knee halves and doubles, collapse beyond"


def run(slots: int | None, made: list[int], first: str = "1.00") -> Run:
    """Return a run of so many tokens in each stretch, with all first tokens alike."""
    limits = [[0.0, slots or 1], [100.0, slots or 20]]
    firsts = [{first: 10} for _ in range(len(made) * MADE_SECONDS // 50)]
    return {"slots": slots, "seed": 1, "made": made, "firsts": firsts, "limits": limits}


def real(slots: int | None, made: int) -> dict[str, Any]:
    result = {"slots": slots, "made": [made] * 240, "firsts": [[130.0, 0.5]]}
    return {**result, "limits": [[0.0, 1], [9.0, 8]]}


def raw(tokens_made: int) -> Any:
    fixed = [run(slots, [made] * 18) for slots, made in ((22, 900), (24, 1000), (26, 800))]
    ours = [run(None, [tokens_made] * 90)]
    story = [run(slots, [made] * 18) for slots, made in ((24, 1000), (12, 500), (48, 2000))]
    data = {
        "scenes": {SCENE: {"found": ours, "fixed": fixed}},
        "stories": {STORY: {"found": [run(None, [tokens_made] * 190)], "fixed": story}},
        "real": [real(8, 100), real(None, tokens_made // 10)],
    }
    return json.loads(json.dumps(data))


def test_the_best_number_is_the_one_that_does_most_within_the_bound() -> None:
    late_first = f"{BOUND + 1:.2f}"

    assert 20 == best([run(10, [500] * 18), run(20, [900] * 18), run(30, [990] * 18, late_first)])
    assert 30 == best([run(20, [900] * 18, late_first), run(30, [990] * 18, late_first)])


def test_runs_of_one_number_count_together() -> None:
    table = swept([run(8, [100] * 18), run(8, [300] * 18, "2.00")])

    assert {8: (20.0, 2.0)} == table


def test_what_comes_before_the_beginning_does_not_count() -> None:
    one = run(None, [100] * 5 + [300] * 5)
    one["firsts"] = [{"9.00": 5}, {"1.00": 19, "2.00": 1}]

    assert 30.0 == rate(one, 50)
    assert 10.0 == rate(one, 0, 50)
    assert 1.0 == late(firsts([one], 50))
    assert 9.0 == late(firsts([one], 0))
    assert 0.0 == late({})


def test_near_is_reached_when_a_whole_minute_is() -> None:
    one = run(None, [100] * 5 + [300] * 7)

    assert 50 == reached(one, 30.0)
    assert 0 == reached(one, 30.0, begin=50)
    assert reached(one, 31.0) is None
    assert reached(one, 30.0, end=100) is None


def test_slots_are_a_mean_over_time() -> None:
    assert 10.5 == slots_of(run(None, [0] * 20), 0, 200)
    assert 20.0 == slots_of(run(None, [0] * 20), 100, 200)


def test_a_goal_that_was_missed_is_told() -> None:
    for made, ends in ((980, "met"), (940, "NOT MET")):
        table = tell(raw(made))[0]

        assert isinstance(table, Table)
        throughput, first, *changes, processes = table.rows
        assert [ends, "met", ends] == [throughput[-1], first[-1], processes[-1]]
        assert [ends, "met", ends, "NOT MET"] == [row[-1] for row in changes]
        assert f"{made / 10:.1f}%" == throughput[2] == processes[2]


def test_every_row_has_a_cell_for_each_column() -> None:
    tables = [one for one in tell(raw(980)) if isinstance(one, Table)]

    assert 5 == len(tables)
    for table in tables:
        assert {len(table.head)} == {len(row) for row in table.rows}, table.title
    assert 4 == len(tables[3].rows)


def test_a_run_keeps_all_that_was_done() -> None:
    kept = run_scene("knee at 4, more wait inside", 1, 4, 60)

    assert 6 == len(kept["made"])
    assert 15 < rate(kept, 20) <= 20
    assert 0 < sum(firsts([kept], 0).values())
    assert "knee at 4, more wait inside" in SCENES
    assert STORY in STORIES


def test_aimd_adapts_the_slots_in_the_tuners_place() -> None:
    tuned = run_scene("knee at 4, more wait inside", 1, None, 120)
    adapted = run_aimd("knee at 4, more wait inside", 1, 120)

    assert tuned["limits"] != adapted["limits"]
    assert 18 < rate(adapted, 60) <= 20
    assert tuned == run_scene("knee at 4, more wait inside", 1, None, 120)
