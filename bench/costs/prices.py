"""The list prices that a bill is made of: us-east-1, US dollars, without free tiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: As AWS bills a month, and calendar seconds of one.
HOURS_A_MONTH: Final = 730
SECONDS_A_MONTH: Final = HOURS_A_MONTH * 3600
MINUTES_A_MONTH: Final = HOURS_A_MONTH * 60

_MEMORY: Final = "list price, from memory"


@dataclass(frozen=True, slots=True)
class Price:
    """Price of ``per`` units."""

    usd: float
    per: float
    unit: str
    source: str

    def of(self, units: float) -> float:
        """Return US dollars for so many units."""
        return self.usd * units / self.per


MILLION: Final = 1e6
GB: Final = 1e9

PRICES: Final = {
    "api": Price(3.50, MILLION, "REST requests, one for each started 10 MB", "third party, 2026"),
    "traffic": Price(0.09, GB, "bytes out to the internet", _MEMORY),
    "lambda-requests": Price(0.20, MILLION, "invocations", "AWS price page, 2026-09"),
    "lambda-seconds": Price(0.0000133334, 1, "GB-seconds, arm64", _MEMORY),
    "sqs": Price(0.40, MILLION, "requests of 64 KB", "third party, 2026-03"),
    "sqs-fair": Price(0.10, MILLION, "requests with a message group, on top", "third party, 2026"),
    "writes": Price(0.625, MILLION, "DynamoDB write request units", "AWS sample code, 2026-08"),
    "reads": Price(0.125, MILLION, "DynamoDB read request units", "AWS sample code, 2026-08"),
    "stored": Price(0.25, GB, "bytes in DynamoDB for a month", "AWS sample code, 2026-08"),
    "kms-key": Price(1.00, 1, "keys for a month", "third party, 2026"),
    "kms": Price(0.03, 10_000, "KMS requests", "third party, 2026"),
    "logs": Price(0.50, GB, "bytes of logs written", "third party, 2026-06"),
    "logs-kept": Price(0.03, GB, "bytes of logs kept for a month", _MEMORY),
    "metric": Price(0.30, 1, "custom metrics for a month, by the hour", "third party, 2026-02"),
    "alarm": Price(0.10, 1, "alarms for a month", "third party, 2026-06"),
    "dashboard": Price(3.00, 1, "dashboards for a month", "third party, 2026-06"),
    "schedule": Price(1.00, MILLION, "EventBridge invocations, at most", _MEMORY),
    "m7g-large-hours": Price(0.0816, 1, "instance hours", _MEMORY),
    "fargate-vcpu-hours": Price(0.03238, 1, "vCPU hours, arm64", _MEMORY),
    "fargate-gb-hours": Price(0.00356, 1, "GB hours, arm64", _MEMORY),
    "balancer-hours": Price(0.0225, 1, "hours of an application load balancer", _MEMORY),
    "balancer-units": Price(0.008, 1, "hours of one of its capacity units", _MEMORY),
    "waf": Price(5.00, 1, "web ACLs for a month, $ 1 more for each rule", _MEMORY),
}
