"""Requests that come while a batch waits, and the lines of that batch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.autoslots.engine import Shape
from bench.dispatch.trace import arrivals

SLOTS = 16
#: Seconds of a step of the engine: for itself, and for each sequence that runs in it.
STEP_SECONDS, SEQUENCE_SECONDS = 0.018, 0.00012
#: How fast it computes prompts, tokens a second.
PROMPT_SPEED = 12_000.0
#: How long prompts and answers are, tokens: the mean, and the spread on the logarithmic scale.
PROMPT_TOKENS, PROMPT_SIGMA = 600, 0.5
ANSWER_TOKENS, ANSWER_SIGMA = 120, 0.7
LINE_TOKENS = 250
#: All lines begin with the same instructions, so many tokens long.
INSTRUCTIONS_TOKENS = 200
#: Bursts, where there are some, seconds on average.
BURST_SECONDS = 10.0


def shape() -> Shape:
    """Return the engine: a small GPU, whose steps take longer the more it has to do in them."""
    return Shape(
        speed=lambda n: 1 / (STEP_SECONDS + SEQUENCE_SECONDS * n),
        prompt_speed=PROMPT_SPEED,
        step_tokens=2048,
        memory_tokens=60_000,
    )


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, and how many tokens its answer has."""

    prompt: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """An interactive request, and when it is sent, seconds from the beginning."""

    at: float
    text: Text


@dataclass(frozen=True, slots=True)
class Trace:
    """Trace of the requests of some seconds, and its lines, of which there are always more."""

    seed: int
    requests: tuple[Request, ...]
    seconds: float

    def line(self, number: int) -> Text:
        """Return a line of the batch."""
        chance = random.Random(f"{self.seed} line {number}")
        instructions = "i" * INSTRUCTIONS_TOKENS
        own = _length(chance, PROMPT_TOKENS - INSTRUCTIONS_TOKENS, PROMPT_SIGMA)
        return Text(
            instructions + _unique(f"line {number} ", own),
            _length(chance, LINE_TOKENS, ANSWER_SIGMA),
        )


def make(*, seed: int, load: float, seconds: float, swell: float = 1.0) -> Trace:
    """
    Return a trace whose requests alone keep ``load`` of the slots busy, on average.

    ``swell`` is how many times the mean rate they come at in bursts.
    """
    chance = random.Random(seed)
    times = arrivals(chance, _rate(load), seconds, BURST_SECONDS, swell)
    requests = tuple(Request(at, text) for at, text in zip(times, _texts(chance), strict=False))
    return Trace(seed=seed, requests=requests, seconds=seconds)


def _texts(chance: random.Random) -> Iterator[Text]:
    number = 0
    while True:
        number += 1
        prompt = _unique(f"request {number} ", _length(chance, PROMPT_TOKENS, PROMPT_SIGMA))
        yield Text(prompt, _length(chance, ANSWER_TOKENS, ANSWER_SIGMA))


def _rate(load: float) -> float:
    """
    Return how many requests a second keep that share of the slots busy.

    While a prompt is computed no answer goes on, so that each of them takes longer with the rate.
    """
    speed = shape().speed(round(load * SLOTS))
    computing = PROMPT_TOKENS / PROMPT_SPEED
    # rate * (computing + ANSWER_TOKENS / (speed * (1 - rate * computing))) = load * SLOTS, nearly.
    return load * SLOTS / (ANSWER_TOKENS / speed + computing * (1 + load * SLOTS))


def _length(chance: random.Random, mean: float, sigma: float) -> int:
    return max(2, round(mean * chance.lognormvariate(-(sigma**2) / 2, sigma)))


def _unique(begin: str, length: int) -> str:
    """Return a text of that length that no other begins with."""
    return begin.ljust(max(length, len(begin)), ".")
