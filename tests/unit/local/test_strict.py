"""The emulator's missing strictness: leading keys, TLS, and functions alone with their bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferline.local.emulator.long_poll import KNOWN_VERSION
from inferline.local.emulator.strict import (
    ALONE,
    OverTls,
    be_strict,
    leading_keys_context,
    on_one_metric,
)

ROW = {"pk": {"S": "tiny#1"}, "sk": {"S": "STATE"}}
OTHER = {"pk": {"S": "big#2"}, "sk": {"S": "STATE"}}
QUERY = {
    "KeyConditionExpression": "pk = :pk AND sk > :sk",
    "ExpressionAttributeValues": {":pk": {"S": "tiny#1"}, ":sk": {"S": "A001"}},
}
NAMED_QUERY = {
    "KeyConditionExpression": "#p = :p AND #s = :s",
    "ExpressionAttributeNames": {"#p": "pk", "#s": "sk"},
    "ExpressionAttributeValues": {":p": {"S": "tiny#1"}, ":s": {"S": "STATE"}},
}
REQUESTS: dict[str, tuple[Any, list[str]]] = {
    "GetItem": ({"TableName": "t", "Key": ROW}, ["tiny#1"]),
    "PutItem": ({"TableName": "t", "Item": ROW}, ["tiny#1"]),
    "Query": ({"TableName": "t", **QUERY}, ["tiny#1"]),
    "Query with names": ({"TableName": "t", **NAMED_QUERY}, ["tiny#1"]),
    "BatchGetItem": ({"RequestItems": {"t": {"Keys": [ROW, OTHER]}}}, ["big#2", "tiny#1"]),
    "BatchWriteItem": (
        {"RequestItems": {"t": [{"PutRequest": {"Item": ROW}}, {"DeleteRequest": {"Key": OTHER}}]}},
        ["big#2", "tiny#1"],
    ),
    "TransactWriteItems": (
        {"TransactItems": [{"Put": {"TableName": "t", "Item": ROW}}, {"Update": {"Key": OTHER}}]},
        ["big#2", "tiny#1"],
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_leading_keys_of_all_that_it_names(name: str) -> None:
    request, expected = REQUESTS[name]

    assert {"dynamodb:LeadingKeys": expected} == leading_keys_context(json.dumps(request).encode())


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"TableName": "t"}'])
def test_a_request_that_names_no_key_has_no_leading_keys(body: bytes) -> None:
    assert {} == leading_keys_context(body)


def test_the_emulator_keeps_its_own_condition_keys_beside_them() -> None:
    iam, runtime, alarms = modules()

    assert be_strict(iam, runtime, alarms, KNOWN_VERSION)

    expected = {"dynamodb:Select": "x", "dynamodb:LeadingKeys": ["tiny#1"]}
    assert expected == iam.dynamodb_service_context(json.dumps({"Key": ROW}).encode())


def test_what_is_denied_is_told(caplog: pytest.LogCaptureFixture) -> None:
    iam, runtime, alarms = modules()
    be_strict(iam, runtime, alarms, KNOWN_VERSION)

    denial = ("sqs", "sqs:SendMessage", "arn:role", "request")

    assert "request" == iam.access_denied_response(*denial, resource_arn="arn:queue")
    assert ["arn:role was denied sqs:SendMessage on arn:queue"] == caplog.messages


def test_a_batch_of_messages_needs_the_right_for_one() -> None:
    iam, runtime, alarms = modules()
    be_strict(iam, runtime, alarms, KNOWN_VERSION)

    assert "sqs:DeleteMessage" == iam.extract_iam_action("sqs", "DeleteMessageBatch")
    assert "x:DoBatch" == iam.extract_iam_action("x", "DoBatch")


def test_an_unknown_release_stays_as_it_is() -> None:
    iam, runtime, alarms = modules()

    assert not be_strict(iam, runtime, alarms, "9.9.9")

    assert "print()" == runtime._PYTHON_WORKER_SCRIPT


def test_a_function_finds_nothing_that_is_installed(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(ALONE + "import sys\nprint([p for p in sys.path if 'site-packages' in p])")

    said = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(tmp_path / "site-packages")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout

    assert "[]" == said.strip()


async def test_every_call_counts_as_made_over_tls() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    await OverTls(app)({"type": "http", "headers": [(b"host", b"x")]}, None, None)  # type: ignore[arg-type]

    assert [(b"host", b"x"), (b"x-forwarded-proto", b"https")] == seen[0]["headers"]


def test_an_alarm_on_several_metrics_watches_the_first() -> None:
    metric = {"Namespace": "AWS/SQS", "MetricName": "Depth", "Dimensions": []}
    stat = {"Metric": metric, "Period": 300, "Stat": "Maximum"}
    alarm = {
        "Threshold": 1,
        "Metrics": [{"Id": "sum", "Expression": "a + b"}, {"Id": "a", "MetricStat": stat}],
    }

    expected = {"Threshold": 1, **metric, "Period": 300, "Statistic": "Maximum"}
    assert expected == on_one_metric(alarm)
    assert {"MetricName": "Depth"} == on_one_metric({"MetricName": "Depth"})


def modules() -> tuple[Any, Any, Any]:
    """Return the modules of the emulator that are patched."""
    return (
        SimpleNamespace(
            dynamodb_service_context=lambda body: {"dynamodb:Select": "x"},
            extract_iam_action=lambda service, action: f"{service}:{action}",
            access_denied_response=lambda service, action, principal, request_id, **_: request_id,
        ),
        SimpleNamespace(_PYTHON_WORKER_SCRIPT="print()"),
        SimpleNamespace(_cw_metric_alarm_record=lambda name, props: props),
    )
