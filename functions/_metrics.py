"""CloudWatch metrics as log lines: no request waits for them, and they hold no prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from inferline.maintenance.sweep import SweepReport
from inferline.usage.ledger import Entry

NAMESPACE: Final = "InferLine"
#: By what the names end in; anything else is a count.
_UNITS: Final = {"Milliseconds": MetricUnit.Milliseconds, "Seconds": MetricUnit.Seconds}


class EmfLedger:
    """A `Ledger` whose entries become metrics: requests by model, errors by code."""

    def record(self, entry: Entry) -> None:
        """Write the entry's metrics; see `Ledger`."""
        values: dict[str, float] = {
            "Requests": 1,
            "TotalMilliseconds": entry.total_ms,
        }
        if entry.first_ms is not None:
            values["FirstTokenMilliseconds"] = entry.first_ms
        if entry.attempt:
            values["QueueMilliseconds"] = entry.queue_ms
        if entry.input_tokens or entry.output_tokens:
            values["InputTokens"] = entry.input_tokens
            values["OutputTokens"] = entry.output_tokens
        if entry.model:
            emit(values, Model=entry.model)
        if entry.code:
            emit({"Errors": 1}, Code=entry.code)


def emit_sweep(report: SweepReport) -> None:
    """Write the sweep's metrics unless all are 0: each metric costs for each hour it is used."""
    if not (report.waiting or report.running or report.providers):
        return
    emit(
        {
            "OldestTaskSeconds": report.oldest_seconds,
            "ModelsWithoutProvider": len(report.unserved),
            "Providers": report.providers,
            "Slots": report.slots,
            "Running": report.running,
            "Waiting": report.waiting,
        }
    )


def emit_failure() -> None:
    """Note that a key could not be checked: to Lambda a wrong key is a failure of its function."""
    emit({"AuthorizerFailures": 1})


def emit(values: Mapping[str, float], **dimensions: str) -> None:
    """Write metrics of one set of dimensions."""
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.service = ""  # Else the service that logs name would be one more dimension.
    for name, label in dimensions.items():
        metrics.add_dimension(name, label)
    for name, value in values.items():
        unit = next((u for end, u in _UNITS.items() if name.endswith(end)), MetricUnit.Count)
        metrics.add_metric(name, unit, value)
    metrics.flush_metrics()
