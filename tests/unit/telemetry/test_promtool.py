"""The metrics and the queries over them, as Prometheus's own tool judges them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from tests.unit.telemetry.test_observability import MANUAL, expressions, gateway, provider


def promtool(*arguments: str, text: str = "") -> None:
    """Fails the test with what the tool says, if it says anything."""
    if shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs promtool")
        pytest.skip("promtool is not here; Debian and Ubuntu have it in the package prometheus")
    ran = subprocess.run(
        ["promtool", "check", *arguments], input=text, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def alarms() -> Iterable[str]:
    block = MANUAL.split("### Worth an alarm\n")[1].split("```")[1]
    return [line.split("  #")[0].strip() for line in block.strip().splitlines()]


class Collector:
    """Gives a registry what was collected elsewhere."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


@pytest.mark.parametrize("metrics", [gateway, provider], ids=lambda match: match.__name__)
def test_every_metric_is_named_and_described_as_prometheus_would_have_it(
    metrics: Callable[[], Iterable[Metric]],
) -> None:
    registry = CollectorRegistry()
    registry.register(Collector(metrics()))

    promtool("metrics", text=generate_latest(registry).decode())


def test_every_query_of_the_dashboard_and_of_the_manual_is_one(tmp_path: Path) -> None:
    panels = [
        one.replace("$__rate_interval", "5m").replace("$model", ".*") for one in expressions()
    ]
    rules = [{"record": f"panel:{at}", "expr": one} for at, one in enumerate(panels)]
    rules += [{"alert": f"Alarm{at}", "expr": one} for at, one in enumerate(alarms())]
    assert len(rules) == len(panels) + 4
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))

    promtool("rules", str(file))


def test_the_manual_s_scrape_configuration_is_one(tmp_path: Path) -> None:
    match = re.search(r"```yaml\n(scrape_configs:.*?)```", MANUAL, re.DOTALL)
    assert match
    # The tool looks for the key's file.
    key = tmp_path / "key"
    key.touch()
    config = yaml.safe_load(match[1])
    config["scrape_configs"][0]["authorization"]["credentials_file"] = str(key)
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))

    promtool("config", str(file))
