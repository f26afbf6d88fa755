"""Ten minutes of more than can be answered, simulated: hardly anybody could answer more in time."""

from __future__ import annotations

import asyncio

import pytest

from bench.overload.overload import result
from bench.overload.trace import bound, foreseeing, make, unforeseeing
from bench.sim import virtual_time

#: What the line may lack, as a share of all requests.
LACK_MAX = 0.02


def test_of_answers_of_one_length_an_all_knowing_dispatcher_has_hardly_more_in_time() -> None:
    outcome = result("the same, all of one length", 1)

    assert outcome.ours >= max(outcome.foreseeing, outcome.unforeseeing) - LACK_MAX
    assert 0 == outcome.begun_late


@pytest.mark.parametrize("scene", ["lengths as of an LLM", "the same, in bursts of 5 s"])
def test_an_all_knowing_dispatcher_that_cannot_foresee_lengths_has_hardly_more(scene: str) -> None:
    outcome = result(scene, 1)

    assert outcome.ours >= outcome.unforeseeing - LACK_MAX
    assert outcome.ours >= outcome.bound - LACK_MAX
    assert 0 == outcome.begun_late


def test_a_line_that_is_not_overloaded_refuses_hardly_anybody() -> None:
    outcome = result("at 0.7 times the capacity", 1)

    # The least patient has not the time for a single one ahead of it, which is chance.
    assert outcome.refused < 0.001
    assert outcome.ours >= outcome.foreseeing - LACK_MAX


def test_no_dispatcher_is_thought_to_do_more_than_its_slots_can() -> None:
    trace = make(seed=1, slots=8, load=1.25, sigma=0.0)

    for reference in (foreseeing, unforeseeing):
        assert 0.78 < len(reference(trace)) / len(trace.requests) <= bound(trace) <= 0.8


def test_where_there_is_room_for_all_the_references_answer_all() -> None:
    trace = make(seed=1, slots=64, load=0.3, sigma=0.0, patience=(60.0, 60.0))
    late = sum(request.at > 600 - 4.1 for request in trace.requests) / len(trace.requests)

    assert bound(trace) >= 1 - late
    for reference in (foreseeing, unforeseeing):
        assert len(reference(trace)) / len(trace.requests) >= 1 - late


def test_time_jumps_to_what_happens_next() -> None:
    async def wait() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(3600):
                await asyncio.sleep(86_400)
        except TimeoutError:
            return loop.time(), True
        return loop.time(), False

    assert (3600, True) == virtual_time.run(wait())


def test_a_wait_for_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="waits"):
        virtual_time.run(asyncio.Event().wait())  # type: ignore[arg-type]
