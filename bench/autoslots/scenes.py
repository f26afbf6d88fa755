"""The scenes in which a provider has to find its slots, and one run of one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

from bench.autoslots.engine import Engine, Shape, collapsing, gradual, queueing, sharing
from bench.autoslots.line import Line, simulate

#: How long a first token may take, seconds.
BOUND = 3.0
#: Tokens are kept by so many seconds, and so are first tokens, by how long they took, in steps.
MADE_SECONDS, FIRSTS_SECONDS = 10, 50
FIRST_STEP_SECONDS = 0.05
#: A run as JSON: slots (None: to be found), seed, tokens by time, first tokens by time and how long
#: they took, and when there was another number of slots.
Run = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A backend and what happens to it."""

    shape: Callable[[], Shape]
    #: What is set in turn, to know the best.
    fixed: Sequence[int]
    streamed: bool = True
    #: Whether the backend tells how many tasks wait inside it.
    tells: bool = False


SCENES = {
    "knee at 24, more wait inside": Scene(
        shape=partial(queueing, 24), fixed=(22, 24, 25, 26, 28, 30)
    ),
    "the same, and it tells so": Scene(
        shape=partial(queueing, 24), fixed=(24, 25, 26, 28), tells=True
    ),
    "the same, answers in one piece": Scene(
        shape=partial(queueing, 24), fixed=(24, 25, 26, 28), streamed=False
    ),
    "knee at 24, all share": Scene(shape=partial(sharing, 24), fixed=(20, 24, 28, 36, 48, 64)),
    "gradual, the bound decides": Scene(
        shape=partial(gradual, 16, 170.0, 0.4, 10), fixed=(24, 28, 30, 32, 34, 36, 40)
    ),
    "collapse beyond 24": Scene(shape=partial(collapsing, 24), fixed=(20, 22, 24, 25, 26, 28)),
    "the same collapse, answers in one piece": Scene(
        shape=partial(collapsing, 24), fixed=(22, 24, 25, 26), streamed=False
    ),
    "knee at 4, more wait inside": Scene(shape=partial(queueing, 4), fixed=(3, 4, 5, 6)),
    "knee at 200, more wait inside": Scene(
        shape=partial(queueing, 200, 1.0, 15.0), fixed=(180, 200, 205, 210, 220)
    ),
}
#: For a look: one of each kind.
SCENES_QUICK = (
    "knee at 24, more wait inside",
    "the same, answers in one piece",
    "gradual, the bound decides",
    "collapse beyond 24",
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A backend whose knee moves, or whose load stops."""

    shape: Callable[[int], Shape]
    #: From when on the knee is where, seconds; 0: no load.
    knees: Mapping[float, int] = field(default_factory=dict)
    seconds: float = 0.0


STORIES = {
    "the load stops for ten minutes": Story(
        shape=queueing, knees={0: 24, 300: 0, 900: 24}, seconds=1200
    ),
    "the knee halves and doubles, more wait inside": Story(
        shape=queueing, knees={0: 24, 400: 12, 900: 24, 1400: 48}, seconds=1900
    ),
    "the knee halves and doubles, collapse beyond": Story(
        shape=collapsing, knees={0: 24, 400: 12, 900: 24, 1400: 48}, seconds=1900
    ),
}
STORIES_QUICK = ("the knee halves and doubles, more wait inside",)


def run_scene(name: str, seed: int, slots: int | None, seconds: float) -> Run:
    """Run a scene with a number of slots, or have it found."""
    scene = SCENES[name]
    return _run(
        slots, seed, seconds, shape=scene.shape(), streamed=scene.streamed, tells=scene.tells
    )


def run_story(name: str, seed: int, slots: int | None, seconds: float) -> Run:
    """Run a story from its first knee on; ``slots`` None: they are found."""
    story = STORIES[name]
    script = {at: partial(_move, story.shape, knee) for at, knee in story.knees.items() if at}
    return _run(slots, seed, seconds, shape=story.shape(story.knees[0]), script=script)


def run_knee(name: str, seed: int, slots: int | None, seconds: float, knee: int) -> Run:
    """Run the backend of a story with one knee for all time."""
    return _run(slots, seed, seconds, shape=STORIES[name].shape(knee))


def _move(shape: Callable[[int], Shape], knee: int, line: Line) -> None:
    line.is_loaded = bool(knee)
    if knee:
        line.engine.become(shape(knee))


def _run(slots: int | None, seed: int, seconds: float, **line: Any) -> Run:
    made = partial(Line, seed=seed, slots=slots, first_token_seconds=BOUND, **line)
    done = simulate(made, seconds, seed)
    return {
        "slots": slots,
        "seed": seed,
        "made": _made(done.engine, seconds),
        "firsts": _firsts(done.engine, seconds),
        "limits": [[round(at, 1), limit] for at, limit in done.limits],
    }


def _made(engine: Engine, seconds: float) -> list[int]:
    counts = [0] * round(seconds / MADE_SECONDS)
    for second, tokens in engine.made.items():
        if (at := second // MADE_SECONDS) < len(counts):
            counts[at] += tokens
    return counts


def _firsts(engine: Engine, seconds: float) -> list[dict[str, int]]:
    counts = [Counter[str]() for _ in range(ceil(seconds / FIRSTS_SECONDS))]
    for moment, took in engine.firsts:
        if (at := int(moment / FIRSTS_SECONDS)) < len(counts):
            counts[at][f"{ceil(took / FIRST_STEP_SECONDS) * FIRST_STEP_SECONDS:.2f}"] += 1
    return [dict(each) for each in counts]
