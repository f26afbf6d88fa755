"""The manual and the dashboard of Grafana speak of the metrics that there are, and of no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric

from inferline.gateway.routes.metrics import GatewayMetrics, MetricsSnapshot
from inferline.gateway.routes.objects import OverviewObject
from inferline.usage.ledger import Entry
from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.metrics import ProviderMetrics
from inferline_provider.telemetry.status import ProviderStatus

DOCS = Path(__file__).parents[3] / "docs"
MANUAL = (DOCS / "observability.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
CALLS = {("sqs", "SendMessage"): 1}
PATH = "/v1/chat/completions"
#: How the manual's table writes the two labels that it has short names for.
SHORT = {"operation": "gen_ai_operation_name", "model": "gen_ai_request_model"}


def gateway() -> Iterable[Metric]:
    counted = GatewayMetrics()
    entry = Entry(
        ended_ms=0, tenant="t", model="m", tier="flex", path=PATH, streamed=True, status=200,
        attempt=2, first_ms=1, total_ms=2, answer_bytes=3, input_tokens=4, output_tokens=5,
    )  # fmt: skip
    counted.record(entry)
    queue = {"model": "m", "tier": "flex", "waiting": 1, "running": 1, "oldest_seconds": 1.0}
    queues = [{**queue, "providers": 1, "slots": 1}]
    overview = OverviewObject.model_construct(queues=[_Like(one) for one in queues])
    return MetricsSnapshot(counted, overview, CALLS).collect()


class _Like:
    """An object with these attributes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.__dict__.update(given)


def provider() -> Iterable[Metric]:
    metrics = ProviderMetrics(lambda: ProviderStatus(1, 1, healthy=True), lambda: CALLS)
    tokens = {"input": 1, "output": 2}
    given = {"model": "m", "tier": "flex", "path": PATH, "queue_ms": 1, "tokens": tokens}
    metrics.record(AttemptRecord(**given, backend_seconds=2.0, first_seconds=1.0))
    metrics.line("m", "answered")
    return metrics.collect()


def labels(metrics: Iterable[Metric]) -> dict[str, set[str]]:
    """Return the labels of each sample, by its name."""
    return {one.name: set(one.labels) for metric in metrics for one in metric.samples}


def documented(section: str) -> dict[str, set[str]]:
    """Return the manual's description of each metric, by its name."""
    text = MANUAL.split(f"### {section}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ?([^|]*)\|", text, re.MULTILINE)
    labels_by_name = {}
    for name, kind, listed in rows:
        words = [word.strip() for word in listed.split(",") if word.strip()]
        names = {word.strip("`") if word[0] == "`" else SHORT[word] for word in words}
        if kind == "histogram":
            labels_by_name |= {f"{name}_bucket": names | {"le"}}
            labels_by_name |= {f"{name}_sum": names, f"{name}_count": names}
        else:
            labels_by_name[name] = names
    return labels_by_name


@pytest.mark.parametrize(
    ("section", "metrics"), [("At a gateway", gateway), ("At a provider", provider)]
)
def test_the_manual_has_every_metric_with_its_labels_and_no_other(
    section: str, metrics: Any
) -> None:
    given = {name: names for name, names in labels(metrics()).items() if "process_" not in name}

    assert given == documented(section)


def test_every_label_is_explained() -> None:
    rows = MANUAL.split("### Labels\n")[1]
    every = set().union(*labels([*gateway(), *provider()]).values()) - {"le"}

    # A call's are AWS's own names.
    assert [] == [name for name in every - {"service", "operation"} if f"| `{name}`" not in rows]


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def test_the_dashboard_asks_for_many_things() -> None:
    assert len(list(expressions())) > 20


@pytest.mark.parametrize("expression", list(expressions()))
def test_a_query_of_the_dashboard_is_of_metrics_and_labels_that_there_are(expression: str) -> None:
    known = labels([*gateway(), *provider()])

    asked = re.findall(r"\b((?:gen_ai|inferline|process)_\w+)(?:\{([^}]*)\})?", expression)
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)

    names = [name for name, _ in asked if name in known]
    assert names
    every = set().union(*(known[name] for name in names)) | {"instance", "job"}
    by = {label.strip() for group in grouped for label in group.split(",")}
    assert by <= every
    assert [] == [name for name, _ in asked if name not in known and name not in by]
    for name, matchers in asked:
        assert set(re.findall(r"(\w+)\s*[!=]", matchers)) <= known.get(name, set())
    assert expression.count("(") == expression.count(")")


def test_grafana_can_import_the_dashboard() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert {"datasource", "model"} == {one["name"] for one in DASHBOARD["templating"]["list"]}
    for panel in DASHBOARD["panels"]:
        assert {"id", "type", "title", "gridPos"} <= set(panel)
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel.get("targets", []))
