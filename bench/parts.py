"""The parts of the measurement: what each tells, and about how long it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One of them; the module of its name in `bench` has ``measure`` and ``tell``."""

    title: str
    #: What it tells, for who chooses.
    what: str
    #: About how long it takes on two cores: all of it, and with ``--quick``.
    seconds: float
    quick_seconds: float


#: In the order in which all of them run, and in which the page has them.
PARTS = {
    "latency": Part(
        "Latency",
        "what InferLine and LiteLLM add: first token, between tokens, whole answer",
        2700,
        260,
    ),
    "gateway": Part(
        "Gateway",
        "CPU time of a router for an answer, and answers a second",
        620,
        150,
    ),
    "streams": Part(
        "Open streams",
        "memory of an open stream, CPU time of a delivered chunk, reads that streams share",
        270,
        90,
    ),
}
