"""What is kept is kept shortly, for as long as an option says, and the manual says so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from inferline.aws.dynamodb.keys import KEY_SECONDS_KEPT, USE_SECONDS_KEPT
from inferline.aws.dynamodb.minutes import SECONDS_KEPT
from inferline.aws.dynamodb.registry_rows import PROVIDER_SECONDS_KEPT
from inferline.fleet.registry import QUARANTINE_SECONDS_KEPT, STRIKE_SECONDS
from inferline.options import options_of
from inferline.settings import SQS_SECONDS_MAX, Settings
from inferline.usage.usage import HOUR_DAYS_KEPT
from infra.options import Options
from tests.support.template import ACCOUNT, REGION, Template, synthesised

MANUAL = (Path(__file__).parents[2] / "docs/security.md").read_text()
ROWS = [
    line
    for line in MANUAL.partition("## How long data is kept\n")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ")
][1:]
OPTIONS = {
    spec.name: spec.default
    for spec in fields(Options)
    if spec.name.endswith("_kept") or spec.name == "log_days"
}
SETTINGS = {
    option.name: option.variable for option in options_of(Settings) if option.name.endswith("_kept")
}
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
    """Return a stack that keeps everything for a time of its own."""
    return synthesised(
        tmp_path_factory,
        models=["m"],
        task_seconds_kept=1801,
        idempotency_seconds_kept=1802,
        queue_seconds_kept=1803,
        dead_letter_seconds_kept=1804,
        body_days_kept=2,
        file_seconds_kept=3 * 24 * 3600 + 1,
        model_seconds_kept=1805,
        usage_days_kept=7,
        log_days=3,
    )


def test_an_option_says_how_long_each_thing_is_kept(brief: Template) -> None:
    queues = brief.named("AWS::SQS::Queue", "QueueName")
    dead = queues.pop("inferline-dead-letters")
    buckets = brief.named("AWS::S3::Bucket", "BucketName")
    [bodies, files] = [
        rule
        for noun in ("bodies", "files")
        for rule in buckets[f"inferline-{noun}-{ACCOUNT}-{REGION}"]["LifecycleConfiguration"][
            "Rules"
        ]
    ]
    control = brief.named("AWS::Lambda::Function", "FunctionName")["inferline-control"]
    variables = control["Environment"]["Variables"]

    # What a batch asks waits longer, and has no prompt in its message.
    assert {1803, SQS_SECONDS_MAX} == {q["MessageRetentionPeriod"] for q in queues.values()}
    assert 1804 == dead["MessageRetentionPeriod"]
    assert ("Enabled", 2) == (bodies["Status"], bodies["ExpirationInDays"])
    # An object may be a week older than the file of results that it belongs to.
    assert ("Enabled", 4 + 8) == (files["Status"], files["ExpirationInDays"])
    assert {3} == {log["RetentionInDays"] for log in brief.of("AWS::Logs::LogGroup").values()}
    expected = {
        "task_seconds_kept": "1801",
        "idempotency_seconds_kept": "1802",
        "queue_seconds_kept": "1803",
        "dead_letter_seconds_kept": "1804",
        "file_seconds_kept": "259201",
        "model_seconds_kept": "1805",
        "usage_days_kept": "7",
    }
    assert {SETTINGS[name]: value for name, value in expected.items()}.items() <= variables.items()
    assert expected.keys() == SETTINGS.keys()


def test_a_setting_and_its_option_have_one_default() -> None:
    assert {name: OPTIONS[name] for name in SETTINGS} == {
        name: getattr(Settings(), name) for name in SETTINGS
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_the_manual_tells_of_each_with_its_default(name: str) -> None:
    [row] = [row for row in ROWS if f"`{name}`" in row]

    unit = "s" if "seconds" in name else "day"
    assert f" {OPTIONS[name]} {unit}" in row
    assert name not in SETTINGS or f"`{SETTINGS[name]}`" in row


@pytest.mark.parametrize("what", FIXED)
def test_the_manual_tells_of_what_nobody_chooses(what: str) -> None:
    [row] = [row for row in ROWS if row.startswith(f"| {what} ")]

    seconds = FIXED[what]
    shown = f"{seconds // 3600} h" if seconds <= 86_400 else f"{seconds // 86_400} days"
    assert f"| {shown}" in row
    assert row.endswith("| fixed |")
