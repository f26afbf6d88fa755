"""The parts of the measurement: what each tells, and about how long it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One of them."""

    #: The module that has ``measure`` and ``tell``.
    module: str
    title: str
    #: What it tells, for who chooses.
    what: str
    #: About how long it takes on two cores: all of it, and with ``--quick``.
    seconds: float
    quick_seconds: float


#: In the order in which all of them run, and in which the page has them.
PARTS = {
    "latency": Part(
        "bench.speed.latency",
        "Latency",
        "what InferLine and LiteLLM add: first token, between tokens, whole answer",
        2100,
        660,
    ),
    "gateway": Part(
        "bench.speed.gateway",
        "Gateway",
        "CPU time of a router for an answer, and answers a second",
        560,
        180,
    ),
    "streams": Part(
        "bench.speed.streams",
        "Open streams",
        "memory of an open stream, CPU time of a delivered chunk, reads that streams share",
        600,
        240,
    ),
    "refill": Part(
        "bench.speed.refill",
        "Refill and occupancy",
        "how long a free slot waits for its next task, and how full the slots are",
        1000,
        420,
    ),
    "relay": Part(
        "bench.speed.relay",
        "Relay",
        "CPU time of a provider for 1,000 tokens, and chunks that share a write",
        220,
        120,
    ),
    "cancel": Part(
        "bench.speed.cancel", "Cancel", "how long a cancelled request still holds its slot", 450, 80
    ),
    "calls": Part(
        "bench.costs.calls",
        "Calls to AWS",
        "calls to AWS for each request, and what a million cost",
        270,
        130,
    ),
    "cost": Part(
        "bench.costs.cost",
        "Cost",
        "the stack on AWS idle for a month, and for a million requests of 20 s",
        900,
        480,
    ),
    "usage": Part(
        "bench.costs.usage",
        "Usage ledger",
        "what it costs to know which tenant has used what",
        120,
        40,
    ),
    "cold_start": Part(
        "bench.speed.cold_start",
        "Cold start",
        "time and memory of each Lambda function's start",
        240,
        110,
    ),
    "aws_client": Part(
        "bench.speed.aws_client", "Client of AWS", "CPU time of a call to AWS, by client", 300, 40
    ),
    "dispatch": Part(
        "bench.dispatch.dispatch",
        "Dispatch",
        "who waits for a slot, how long and for which, beside LiteLLM and an ideal queue",
        3000,
        330,
    ),
    "growth": Part(
        "bench.growth.growth",
        "Growth",
        "what the registry and the polls cost with 100, 1,000 and 5,000 providers",
        1500,
        180,
    ),
    "overload": Part(
        "bench.overload.overload",
        "Overload",
        "the share answered in time at 1.2 times the capacity, beside the best possible",
        300,
        90,
    ),
    "fairness": Part(
        "bench.fairness.fairness",
        "Fairness",
        "how long a tenant waits beside one with 100 times its load, and the best possible",
        1800,
        50,
    ),
    "autoslots": Part(
        "bench.autoslots.autoslots",
        "Automatic slots",
        "the slots that a provider finds, beside the best number that can be set",
        2100,
        500,
    ),
    "batches": Part(
        "bench.batches.batches",
        "Batches",
        "what a batch costs the requests beside it, and what it costs at all, beside LiteLLM",
        2400,
        400,
    ),
    "isolation": Part(
        "bench.failures.isolation",
        "Isolation",
        "what good clients lose beside clients whose requests always fail, beside LiteLLM",
        1080,
        300,
    ),
    "failover": Part(
        "bench.failures.failover",
        "Failover",
        "what a client is told when one of two servers fails, beside LiteLLM",
        660,
        280,
    ),
}
