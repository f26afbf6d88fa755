"""The scripted engine that batches are measured with, and a short look at batches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.autoslots.engine import ANSWER, Engine, Prompt, Shape
from bench.autoslots.prefixes import BLOCK_TOKENS, PrefixCache
from bench.batches.arms import ARMS
from bench.batches.batches import SCENES, run
from bench.batches.line import LineProgress, World
from bench.batches.real_tables import real
from bench.batches.tables import ALONE, EVICT, FIFO, HOLDBACK, OURS, Arm, beside_requests
from bench.batches.trace import SLOTS, make
from bench.report import Table
from bench.sim import virtual_time

#: A step takes 10 ms and 1 ms for each sequence; a second has 1,000 tokens of prompts.
SHAPE = Shape(
    speed=lambda n: 1 / (0.010 + 0.001 * n),
    prompt_speed=1000.0,
    step_tokens=100,
    memory_tokens=1000,
)


async def seconds(engine: Engine, prompt: Prompt, tokens: int) -> list[float]:
    """Return when each token of an answer came."""
    clock = asyncio.get_running_loop().time
    return [clock() async for _ in engine.complete(prompt, tokens)]


def test_a_prompt_is_computed_in_the_steps_and_makes_them_longer() -> None:
    async def alone() -> list[float]:
        return await seconds(Engine(SHAPE, 1), Prompt("p" * 150), 3)

    first, second, third = virtual_time.run(alone())

    # Two steps, of 100 and 50 tokens; then two of none.
    assert pytest.approx(2 * 0.011 + 0.150) == first
    assert pytest.approx(0.011) == second - first == third - second


def test_tokens_come_the_slower_the_more_run() -> None:
    async def crowd() -> list[list[float]]:
        engine = Engine(SHAPE, 1)
        return await asyncio.gather(*(seconds(engine, Prompt("p" * 9), 5) for _ in range(4)))

    times = virtual_time.run(crowd())

    assert pytest.approx(0.014) == times[0][4] - times[0][3]


def test_an_answer_that_is_resumed_has_its_beginning_in_the_cache() -> None:
    async def resumed() -> Prompt:
        engine, prompt = Engine(SHAPE, 1), "p" * 100
        begun = engine.complete(Prompt(prompt), 50)
        for _ in range(20):
            await anext(begun)
        await begun.aclose()
        rest = Prompt(prompt + ANSWER * 20)
        await seconds(engine, rest, 30)
        return rest

    rest = virtual_time.run(resumed())

    assert 120 // BLOCK_TOKENS * BLOCK_TOKENS == rest.cached
    assert 120 == rest.cached + rest.computed


def test_a_prompt_that_is_all_cached_computes_its_last_token() -> None:
    cache = PrefixCache()
    cache.keep("p" * 32, 100)

    assert 31 == cache.cached("p" * 32)


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = PrefixCache()
    for text in ("a" * 32, "b" * 32):
        cache.keep(text, 64)

    cache.cached("a" * 33)
    cache.keep("c" * 32, 64)

    assert [32, 0, 32] == [cache.cached(letter * 33) for letter in "abc"]


def test_requests_keep_their_share_of_the_slots_busy() -> None:
    trace = make(seed=1, load=0.5, seconds=2000)
    again = make(seed=1, load=0.5, seconds=2000)

    assert trace == again
    busy = sum(one.text.tokens for one in trace.requests) * 0.022 / trace.seconds
    assert pytest.approx(0.5 * SLOTS, rel=0.15) == busy


def test_work_done_again_is_told_from_new_work() -> None:
    async def world() -> World:
        return World(make(seed=1, load=0.1, seconds=1), seed=1, with_batch=False)

    measured, progress = virtual_time.run(world()), LineProgress(answered=5, reached=20)
    measured.counts = True

    for made in (4, 5, 6):
        measured.made(progress, made)
    measured.computed(progress, Prompt("p" * 30, cached=16, computed=14), 36)

    result = measured.result
    assert (1, 3) == (result.line_tokens, result.line_tokens_made)
    assert (4, 14) == (result.prompt_tokens_again, result.prompt_tokens)


@pytest.fixture(scope="module")
def scene() -> dict[str, Any]:
    return {arm: run("0.5", arm, 1, 40.0) for arm in ARMS}


def test_requests_do_not_wait_for_lines_but_where_lines_keep_their_slots(
    scene: dict[str, Any],
) -> None:
    p50 = {name: Arm(raw).ms("first_ms", 0.5) for name, raw in scene.items()}

    assert max(p50[OURS], p50[EVICT]) < 1.3 * p50[ALONE] < p50[HOLDBACK] <= p50[FIFO]


def test_a_line_that_is_evicted_is_made_again(scene: dict[str, Any]) -> None:
    assert 0 == Arm(scene[FIFO]).lost == Arm(scene[HOLDBACK]).lost < 0.2 < Arm(scene[EVICT]).lost


def test_the_tables_have_a_cell_for_each_column(scene: dict[str, Any]) -> None:
    assert set(SCENES) >= {"0.5"}
    tables = [*beside_requests({"scenes": {"0.5": scene}}), *real(REAL)]

    for table in tables:
        assert isinstance(table, Table)
        assert {len(table.head)} == {len(row) for row in table.rows}, table.title


TALLY = {
    "calls": {"dynamodb UpdateItem": 30},
    **dict.fromkeys(("sqs", "fair", "writes", "reads", "puts", "gets", "stored"), 10),
}
REAL: dict[str, Any] = {
    "wall": {
        "slots": 16,
        "lines": 1000,
        "direct_ms": 250_000,
        "backend_ms": 251_000,
        "life": {
            "uploaded": 0.1,
            "created": 0.2,
            "validated": 0.4,
            "ended": 255.0,
            "answered": 1000,
            "batch": {},
        },
        "asked": 1000,
        "tally": TALLY,
    },
    "long": {
        "lines": 50_000,
        "bytes": 51_200_000,
        "upload_seconds": 1.0,
        "validation_seconds": 4.0,
        "status": "in_progress",
        "total": 50_000,
        "memory_kib": [60_000, 80_000],
    },
    "peer": {
        "lines": 640,
        "slots": 32,
        "direct_seconds": 80.0,
        "litellm_seconds": {"default": 640.0, "32 at once": 90.0},
        "litellm_killed": {"answered": 320, "kept": 0},
        "seconds": 82.0,
        "answered": 640,
        "killed": {"answered": 320, "kept": 640, "asked": 700},
    },
}


def test_the_goals_say_what_is_met() -> None:
    outcomes = [row[-1] for row in real(REAL)[0].rows]

    assert ["met"] * 7 == outcomes
