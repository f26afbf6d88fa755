"""
The bill: units of what was counted and of what the stack declares, times list prices.

What no emulator shows (durations of the small functions, log lines, what Lambda polls) is assumed
here in one place, and the tables say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from bench.costs.prices import HOURS_A_MONTH, MINUTES_A_MONTH, PRICES, SECONDS_A_MONTH
from bench.costs.template import Declared
from bench.harness.counting import Tally

#: Assumed. How long one run of the small functions takes, seconds.
RUN_SECONDS: Final = {"control": 0.1, "authorizer": 0.01, "sweep": 0.3}
#: Assumed. What Lambda and the API write of a run into their logs, besides our metrics.
LOG_BYTES: Final = 1500
#: Assumed. How long logs are kept, months.
LOG_MONTHS: Final = 1.0
#: Assumed. TTL deletes a row "typically within two days" after its hour.
ROW_SECONDS: Final = 3600 + 2 * 24 * 3600
#: Assumed. Lambda polls a queue for its function with five long polls of 20 s.
SOURCE_POLLS: Final = 5 / 20
#: Assumed. The authorizer remembers a key for a minute; one asks so often in that time.
REQUESTS_A_KEY: Final = 10
#: Assumed. DynamoDB keeps a data key for 300 s for each caller, SQS as long as its queues say. The
#: sweep reads two tables. A model in use has a queue, where a sender counts twice and a receiver
#: once, and three callers of the tables: inference, the provider and control.
TABLE_KEY_SECONDS: Final = 300
SWEEP_KEYS: Final = 2
MODEL_QUEUE_KEYS: Final = 2 + 1
MODEL_TABLE_KEYS: Final = 3
#: Metrics of the sweep while there is a provider, and of each model in use.
SWEEP_METRICS: Final = 6
MODEL_METRICS: Final = 6
#: Rules of the firewall, a fifth of its price each.
WAF_RULES: Final = 1
#: Managed Instances want three zones; the smallest useful machine in each, and AWS's fee on top.
MANAGED_INSTANCES: Final = 3
MANAGED_FEE: Final = 1.15
#: Two containers of so many processors and GB, behind a balancer that is little used.
CONTAINERS: Final = 2
CONTAINER_VCPU: Final = 0.5
CONTAINER_GB: Final = 1.0

#: What is paid for: a name, and units by price.
Item = tuple[str, dict[str, float]]

#: The names of two items that goals speak of.
WAITING: Final = "Lambda that waits"
TRAFFIC: Final = "traffic to the client"


@dataclass(frozen=True, slots=True)
class Counted:
    """One request as it was counted."""

    seconds: float
    answer_bytes: float
    tally: Tally


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of the declared stack that the bill needs besides."""

    #: Between two heartbeats of a provider, seconds.
    enrol_seconds: float
    #: How long SQS keeps a data key, seconds.
    queue_key_seconds: float
    #: The log line that a request's metrics are, bytes.
    metric_bytes: int


@dataclass(frozen=True, slots=True)
class Bill:
    """Makes units of what was counted and of what the stack declares."""

    stack: Declared
    plan: Plan

    def of_request(self, counted: Counted) -> list[Item]:
        """Return what a request is billed."""
        tally = counted.tally
        # The key's row and its tenant's.
        looked_up = {"reads": 2 / REQUESTS_A_KEY}
        return [
            ("API Gateway", {"api": max(1, ceil(counted.answer_bytes / 10e6))}),
            (WAITING, self._run("inference", counted.seconds)),
            ("SQS, fair queues", {"sqs": tally.sqs, "sqs-fair": tally.fair}),
            ("DynamoDB writes", {"writes": tally.writes}),
            ("DynamoDB reads", {"reads": tally.reads}),
            ("DynamoDB storage", {"stored": tally.stored * ROW_SECONDS / SECONDS_A_MONTH}),
            ("logs", _logs(LOG_BYTES + self.plan.metric_bytes)),
            ("authorizer", {**self._run("authorizer"), **looked_up, **_logs(LOG_BYTES)}),
            (TRAFFIC, {"traffic": counted.answer_bytes}),
        ]

    def of_month(self, idle: Tally, sweep: Tally) -> list[Item]:
        """
        Return what the stack costs a month, and what is added by who uses it.

        ``idle`` is a second's calls, ``sweep`` those of one sweep, both with one model.
        """
        plan = self.plan
        beats = SECONDS_A_MONTH / plan.enrol_seconds
        tables = SECONDS_A_MONTH / TABLE_KEY_SECONDS
        queues = SECONDS_A_MONTH / plan.queue_key_seconds
        polls = idle.times(SECONDS_A_MONTH)
        swept = {"schedule": 1, "reads": sweep.reads, **self._run("sweep"), **_logs(LOG_BYTES)}
        beat = {"api": 1, **self._run("control"), **_logs(LOG_BYTES)}
        called = {"sqs": polls.sqs, "writes": polls.writes, "reads": polls.reads}
        keys = tables * MODEL_TABLE_KEYS + queues * MODEL_QUEUE_KEYS
        return [
            ("KMS key", {"kms-key": self.stack.keys}),
            ("sweep, each minute", {**times(swept, MINUTES_A_MONTH), "kms": tables * SWEEP_KEYS}),
            ("dead letters, polled by Lambda", {"sqs": SECONDS_A_MONTH * SOURCE_POLLS}),
            ("alarms", {"alarm": self.stack.alarm_metrics}),
            ("dashboard; an account's first three are free", {"dashboard": self.stack.dashboards}),
            (
                "+ a provider of one model, idle",
                {**called, **times(beat, beats), "metric": SWEEP_METRICS},
            ),
            ("+ a model in use", {"metric": MODEL_METRICS, "kms": keys}),
            ("+ firewall, if switched on", {"waf": 1 + WAF_RULES / 5}),
        ]

    def of_waiting(self, at_once: int) -> list[Item]:
        """Return what it costs a month to wait for so many answers all the time, by who waits."""
        seconds = self.stack.memory["inference"] * SECONDS_A_MONTH * at_once
        machines = MANAGED_INSTANCES * HOURS_A_MONTH * MANAGED_FEE
        hours = CONTAINERS * HOURS_A_MONTH
        return [
            ("Lambda", {"lambda-seconds": seconds}),
            ("Managed Instances, three m7g.large", {"m7g-large-hours": machines}),
            (
                "two containers on Fargate, and their balancer",
                {
                    "fargate-vcpu-hours": hours * CONTAINER_VCPU,
                    "fargate-gb-hours": hours * CONTAINER_GB,
                    "balancer-hours": HOURS_A_MONTH,
                    "balancer-units": HOURS_A_MONTH,
                },
            ),
        ]

    def _run(self, function: str, seconds: float | None = None) -> dict[str, float]:
        """Return one run of a function."""
        lasted = RUN_SECONDS[function] if seconds is None else seconds
        return {"lambda-requests": 1, "lambda-seconds": self.stack.memory[function] * lasted}


def _logs(length: float) -> dict[str, float]:
    return {"logs": length, "logs-kept": length * LOG_MONTHS}


def times(units: Mapping[str, float], factor: float) -> dict[str, float]:
    """Return everything so many times."""
    return {name: count * factor for name, count in units.items()}


def usd(items: Sequence[Item], *, without: Sequence[str] = ()) -> float:
    """Return what all items cost but some, US dollars."""
    return sum(price_of(units) for name, units in items if name not in without)


def price_of(units: Mapping[str, float]) -> float:
    """Return what units cost, US dollars."""
    return sum(PRICES[name].of(count) for name, count in units.items())


def counted(raw: Mapping[str, Any]) -> Counted:
    """Return one request of the raw data."""
    return Counted(raw["seconds"], raw["answer_bytes"], Tally.of(raw))
