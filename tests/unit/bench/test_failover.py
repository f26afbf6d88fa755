"""What the outcomes of failures are worth, and which server fails, without a process."""

from __future__ import annotations

from typing import Any

import pytest

from bench.failures.failing_backend import BEHAVIOURS, PREFILL_REFUSED, Peers, said, well
from bench.failures.failover import judged
from bench.failures.failover_line import Reading
from bench.failures.failover_scenes import (
    FLAPS,
    SCENES,
    WHOLE,
    WORDS,
    Attempt,
    Flap,
    Reply,
    Seen,
    judge,
    judge_flap,
)

USAGE = {"completion_tokens": WORDS}
GOOD = Reply(1.0, 200, WHOLE, usage=USAGE, server=1)
REFUSED = Reply(0.1, 400, error="context_length_exceeded: too long")
BROKEN = Reply(1.0, 200, "".join(said(40)), error="provider_lost: gone")
#: The first server is asked so often, two seconds apart, then the other.
ONCE, PASSED_ON, AGAIN = ([0], [0, 1], [0, 0])


def seen(reply: Reply, servers: list[int], *, alive: bool = True) -> Seen:
    return Seen(reply, [Attempt(server, 2.0 * at) for at, server in enumerate(servers)], alive)


@pytest.mark.parametrize(
    ("scene", "run", "verdict"),
    [
        ("S01", seen(GOOD, AGAIN), "passed"),
        ("S01", seen(GOOD, PASSED_ON), "partial"),
        ("S01", Seen(GOOD, [Attempt(0, at / 10) for at in range(3)]), "failed"),
        ("S02", seen(GOOD, PASSED_ON), "passed"),
        ("S02", seen(GOOD, [0] * 7), "failed"),
        ("S03", seen(GOOD, PASSED_ON), "partial"),
        ("S06", seen(GOOD, PASSED_ON), "passed"),
        ("S06", seen(GOOD, [0, 0, 1]), "partial"),
        ("S07", seen(Reply(20, 200, WHOLE), ONCE), "partial"),
        ("S08", seen(GOOD, PASSED_ON), "passed"),
        ("S08", seen(BROKEN, PASSED_ON), "safe"),
        ("S08", seen(Reply(40, 200, "", hung=True), ONCE), "failed"),
        ("S09", seen(BROKEN, ONCE, alive=False), "failed"),
        ("S10", seen(Reply(1, 200, WHOLE, garbage=True), ONCE), "failed"),
        ("S11", seen(Reply(1, 200, WHOLE), ONCE), "partial"),
        ("S12", seen(REFUSED, ONCE), "safe"),
        ("S12", seen(REFUSED, AGAIN), "failed"),
        ("S13", seen(REFUSED, ONCE), "passed"),
        ("S13", seen(GOOD, PASSED_ON), "partial"),
        ("S14", seen(Reply(1, 400, error=f"{PREFILL_REFUSED}: no"), PASSED_ON), "failed"),
        ("S16", seen(GOOD, PASSED_ON), "passed"),
        ("S16", seen(Reply(1, 200, WHOLE, usage=USAGE, server=0), PASSED_ON), "failed"),
    ],
)
def test_an_outcome_has_its_verdict(scene: str, run: Seen, verdict: str) -> None:
    assert verdict == judge(SCENES[scene], run).verdict


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("text", ["".join(said(40)), WHOLE + WHOLE, "".join(said(40)) + WHOLE, ""])
def test_no_scene_passes_a_wrong_answer_for_whole(scene: str, text: str) -> None:
    assert "failed" == judge(SCENES[scene], seen(Reply(1, 200, text), PASSED_ON)).verdict


@pytest.mark.parametrize(
    ("replies", "recovered", "verdict"),
    [
        ([GOOD, GOOD], 4.0, "passed"),
        ([GOOD, REFUSED], 4.0, "safe"),
        ([GOOD, GOOD], None, "failed"),
        ([GOOD, GOOD], 31.0, "failed"),
        ([GOOD, Reply(30, hung=True)], 4.0, "failed"),
    ],
)
def test_a_server_that_was_down_has_to_be_used_again(
    replies: list[Reply], recovered: float | None, verdict: str
) -> None:
    assert verdict == judge_flap(Flap(replies, 1, recovered)).verdict


def test_there_are_sixteen_situations_and_each_has_its_behaviour() -> None:
    numbers = {f"S{number:02}" for number in range(1, 17)}

    assert numbers == {*SCENES, FLAPS}
    assert {scene.behaviour for scene in SCENES.values()} <= set(BEHAVIOURS)


def test_whichever_server_is_asked_first_is_the_one_that_fails() -> None:
    peers = Peers()

    behaviours = [peers.meet("500", "1", server, 0.0) for server in (1, 0, 1)]

    assert [500, None, 500] == [behaviour.status for behaviour in behaviours]
    assert 500 == peers.meet("500", "2", 0, 0.0).status


def test_a_server_that_fails_once_is_well_the_second_time() -> None:
    peers = Peers()

    assert [500, None] == [peers.meet("500 once", "1", 0, 0.0).status for _ in range(2)]


def test_a_server_that_is_down_for_a_minute_is_well_behind_it() -> None:
    peers = Peers()

    statuses = [peers.meet("down", "1", 0, now).status for now in (5.0, 64.0, 65.0)]

    assert [503, 503, None] == statuses


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_peer_says_the_same_without_what_goes_wrong(name: str) -> None:
    behaviour = well(BEHAVIOURS[name])

    assert behaviour.words == BEHAVIOURS[name].words
    assert (None, None, 0.0) == (behaviour.status, behaviour.breaks_at, behaviour.silent)


def test_a_client_reads_text_usage_and_errors_of_a_stream() -> None:
    reading = Reading()

    for line in (
        b'data: {"choices": [{"delta": {"content": "the"}}]}\n',
        b"\n",
        b": ping\n",
        b'data: {"choices": null, "usage": {"completion_tokens": 1}}\n',
        b'data: {"error": {"code": "provider_lost", "message": "Gone."}}\n',
        b"data: [DONE]\n",
    ):
        reading.line(line)

    seen = (reading.text, reading.error, reading.usage, reading.garbage)
    assert ("the", "provider_lost: Gone.", {"completion_tokens": 1}, False) == seen


def test_a_client_sees_what_it_can_t_read() -> None:
    reading = Reading()

    reading.line(b'data: {"choices": [{\n')

    assert reading.garbage


def test_what_is_kept_of_a_run_is_judged_as_the_run() -> None:
    attempts = [{"server": 0, "at": 0.0}, {"server": 1, "at": 0.1}]
    reply: dict[str, Any] = {"seconds": 0.2, "status": 200, "text": None, "usage": USAGE}

    verdict, figures = judged("S08", {"reply": reply, "attempts": attempts, "alive": True})

    assert ("passed", "1 + 1 in 0.2 s") == (verdict.verdict, figures)
