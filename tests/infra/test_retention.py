"""What is kept is kept shortly, for as long as a switch says, and the manual says so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from inferline.aws.dynamodb.keys import KEY_SECONDS_KEPT, USE_SECONDS_KEPT
from inferline.aws.dynamodb.minutes import SECONDS_KEPT
from inferline.aws.dynamodb.registry_rows import PROVIDER_SECONDS_KEPT
from inferline.fleet.registry import QUARANTINE_SECONDS_KEPT, STRIKE_SECONDS
from inferline.settings import Settings, env_name
from inferline.usage.usage import HOUR_DAYS_KEPT
from infra.switches import Switches
from tests.support.template import ACCOUNT, REGION, Template, synthesised

MANUAL = (Path(__file__).parents[2] / "docs/security.md").read_text()
ROWS = [
    line
    for line in MANUAL.partition("## How long what is kept\n")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ")
][1:]
SWITCHES = {
    spec.name: spec.default
    for spec in fields(Switches)
    if spec.name.endswith("_kept") or spec.name == "log_days"
}
SETTINGS = {spec.name: env_name(spec) for spec in fields(Settings) if spec.name.endswith("_kept")}
#: What nobody chooses, by what it is called; it holds no word of what was asked.
FIXED = {
    "figures by minute": SECONDS_KEPT,
    "sums by hour": HOUR_DAYS_KEPT * 86_400,
    "a silent provider": PROVIDER_SECONDS_KEPT,
    "strikes": STRIKE_SECONDS,
    "a quarantined provider": QUARANTINE_SECONDS_KEPT,
    "a key that expired or was revoked": KEY_SECONDS_KEPT,
    "when a key was last used": USE_SECONDS_KEPT,
}


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A stack that keeps everything for a time of its own."""
    return synthesised(
        tmp_path_factory,
        models=["m"],
        task_seconds_kept=1801,
        idempotency_seconds_kept=1802,
        queue_seconds_kept=1803,
        dead_letter_seconds_kept=1804,
        body_days_kept=2,
        model_seconds_kept=1805,
        usage_days_kept=7,
        log_days=3,
    )


def test_a_switch_says_how_long_each_thing_is_kept(brief: Template) -> None:
    queues = brief.named("AWS::SQS::Queue", "QueueName")
    dead = queues.pop("inferline-dead-letters")
    buckets = brief.named("AWS::S3::Bucket", "BucketName")
    bodies = buckets[f"inferline-bodies-{ACCOUNT}-{REGION}"]
    [rule] = bodies["LifecycleConfiguration"]["Rules"]
    control = brief.named("AWS::Lambda::Function", "FunctionName")["inferline-control"]
    told = control["Environment"]["Variables"]

    assert {1803} == {queue["MessageRetentionPeriod"] for queue in queues.values()}
    assert 1804 == dead["MessageRetentionPeriod"]
    assert ("Enabled", 2) == (rule["Status"], rule["ExpirationInDays"])
    assert {3} == {log["RetentionInDays"] for log in brief.of("AWS::Logs::LogGroup").values()}
    expected = {
        "task_seconds_kept": "1801",
        "idempotency_seconds_kept": "1802",
        "queue_seconds_kept": "1803",
        "dead_letter_seconds_kept": "1804",
        "model_seconds_kept": "1805",
        "usage_days_kept": "7",
    }
    assert {SETTINGS[name]: value for name, value in expected.items()}.items() <= told.items()
    assert expected.keys() == SETTINGS.keys()


def test_a_setting_and_its_switch_have_one_default() -> None:
    assert {name: SWITCHES[name] for name in SETTINGS} == {
        name: getattr(Settings(), name) for name in SETTINGS
    }


@pytest.mark.parametrize("name", SWITCHES)
def test_the_manual_tells_of_each_with_its_default(name: str) -> None:
    [row] = [row for row in ROWS if f"`{name}`" in row]

    unit = "s" if "seconds" in name else "day"
    assert f" {SWITCHES[name]} {unit}" in row
    assert name not in SETTINGS or f"`{SETTINGS[name]}`" in row


@pytest.mark.parametrize("what", FIXED)
def test_the_manual_tells_of_what_nobody_chooses(what: str) -> None:
    [row] = [row for row in ROWS if row.startswith(f"| {what} ")]

    seconds = FIXED[what]
    shown = f"{seconds // 3600} h" if seconds <= 86_400 else f"{seconds // 86_400} days"
    assert f"| {shown}" in row
    assert row.endswith("| fixed |")
