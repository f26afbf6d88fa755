"""The stack as it is declared: what of it costs by being there, read from its own template."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from bench.harness.processes import ROOT, BenchError

#: Synthesises without bundling the functions, and prints the template.
_SYNTH = """
import json
from infra.stack import app
assembly = app({"aws:cdk:bundling-stacks": []}).synth()
print(json.dumps(assembly.stacks[0].template))
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """Contents of the template."""

    #: GB, by the function's name without the stack's.
    memory: dict[str, float]
    #: What alarms look at; each is billed.
    alarm_metrics: int
    dashboards: int
    keys: int
    #: What the waiting function is told of pauses and intervals, by their environment names.
    settings: dict[str, str]


def declared() -> Declared:
    """Synthesise the stack with its own `cdk.json`. Raises BenchError."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    environment = {
        **os.environ,
        "CDK_CONTEXT_JSON": json.dumps(context),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    command = [sys.executable, "-c", _SYNTH]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if made.returncode:
        raise BenchError(f"the stack can't be synthesised:\n{made.stderr[-1500:]}")
    resources: dict[str, list[dict[str, Any]]] = {}
    for resource in json.loads(made.stdout)["Resources"].values():
        resources.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
    stack = context["stack"]
    functions = {str(f.get("FunctionName", "")): f for f in resources["AWS::Lambda::Function"]}
    variables = functions[f"{stack}-inference"]["Environment"]["Variables"]
    return Declared(
        memory={
            name.removeprefix(f"{stack}-"): function["MemorySize"] / 1024
            for name, function in functions.items()
            if name.startswith(stack)
        },
        alarm_metrics=sum(map(_metrics, resources["AWS::CloudWatch::Alarm"])),
        dashboards=len(resources["AWS::CloudWatch::Dashboard"]),
        keys=len(resources["AWS::KMS::Key"]),
        settings={
            name: value
            for name, value in variables.items()
            if "_SECONDS" in name or "_SHARE" in name
        },
    )


def _metrics(alarm: dict[str, Any]) -> int:
    """Return how many metrics an alarm looks at: several where it calculates."""
    return sum("MetricStat" in metric for metric in alarm.get("Metrics", ())) or 1
