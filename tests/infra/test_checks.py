"""Public rules for stacks like this one, and why some of them are not followed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.template import ROOT, context

CHECKOV = ROOT / ".venv-scanners" / "bin" / "checkov"

NO_BACKUP = "Tasks live for an hour; a backup would keep prompts that are long deleted."
NO_ACCESS_LOG = "Bodies are for this stack's roles alone and gone after a day; the page is public."
NO_PAGE_LOG = "The page is public and without data; the API beside it has its own log."
NO_PAGE_FIREWALL = "There is nothing to attack; the API's firewall stands before the API."
CLOUDFRONTS_NAME = "A name under cloudfront.net has CloudFront's certificate and its choice of TLS."
NO_DEAD_LETTER = (
    "API Gateway and CloudFormation wait for their functions; the sweep comes again in a minute; "
    "dead letters stay."
)
PYTHON = "The runtime is the Python that made the bytecode; the operator chooses it."
NO_TRACES = "They cost more than all else about a request but its waiting; an option makes them."
LATER = "A sweep that failed is followed by another within a minute; a late one is of no use."
A_MODELS_QUEUES = "The star is a model's name; its queues are made when a provider brings it."

#: cdk-nag's findings, each with the reason why it stays.
NAG = {
    "AwsSolutions-APIG2": "Bodies are passed on as they are; the functions check what they route.",
    "AwsSolutions-APIG6": "Method logs hold bodies. The access log tells who and how long.",
    "AwsSolutions-CFR1": "Who may ask is told by a key, not by a country.",
    "AwsSolutions-CFR2": NO_PAGE_FIREWALL,
    "AwsSolutions-CFR3": NO_PAGE_LOG,
    "AwsSolutions-CFR4": CLOUDFRONTS_NAME,
    "AwsSolutions-COG4": "Clients show API keys, as OpenAI's do; our authorizer checks them.",
    "AwsSolutions-DDB3": NO_BACKUP,
    "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
    "AmazonAPIGatewayPushToCloudWatchLogs]": "API Gateway asks for this very policy.",
    "AwsSolutions-IAM5[Resource::<PageFiles79CCA538.Arn>/dashboard/*]": "The star is a file.",
    "AwsSolutions-IAM5[Resource::<StorageBodies7921A412.Arn>/*]": "The star is an object's key.",
    "AwsSolutions-IAM5[Resource::<StorageFiles48C02C92.Arn>/*]": "The star is an object's key.",
    **{
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:"
        f"inferline-*-{tier}]": A_MODELS_QUEUES
        for tier in ("batch", "default", "flex", "priority")
    },
    "AwsSolutions-L1": PYTHON,
    "AwsSolutions-S1": NO_ACCESS_LOG,
    "Serverless-APIGWXrayEnabled": NO_TRACES,
    "Serverless-EventBusDLQ": LATER,
    "Serverless-LambdaAsyncFailureDestination": LATER,
    "Serverless-LambdaDLQ": NO_DEAD_LETTER,
    "Serverless-LambdaEventSourceMappingDestination": "It is the dead letters' own consumer.",
    "Serverless-LambdaLatestVersion": PYTHON,
    "Serverless-LambdaTracing": NO_TRACES,
    "Serverless-SNSRedrivePolicy": "What an e-mail does not tell, CloudWatch shows all the same.",
    "Serverless-SQSRedrivePolicy": "It is the dead-letter queue.",
}
#: Checkov's.
CHECKS = {
    "CKV_AWS_18": NO_ACCESS_LOG,
    "CKV_AWS_21": "An older version of a body or of the page would be kept for nobody.",
    "CKV_AWS_28": NO_BACKUP,
    "CKV_AWS_68": NO_PAGE_FIREWALL,
    "CKV_AWS_73": NO_TRACES,
    "CKV_AWS_86": NO_PAGE_LOG,
    "CKV_AWS_116": NO_DEAD_LETTER,
    "CKV_AWS_117": "A function in a VPC reaches AWS through endpoints that cost by the hour.",
    "CKV_AWS_120": "No two answers of a model are the same.",
    "CKV_AWS_173": "There is no secret in the environment; Lambda encrypts it with its own key.",
    "CKV_AWS_174": CLOUDFRONTS_NAME,
    "CKV_AWS_192": "Nothing here is Java, and prompts about Log4j are let through.",
}
#: cfn-lint's.
LINT = {"W3005": "The CDK says each dependency twice."}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the template that has everything, and cdk-nag's report on it."""
    import aws_cdk
    from cdk_nag import AwsSolutionsChecks, ServerlessChecks

    from infra.options import Options
    from infra.stack import InferLine

    folder = tmp_path_factory.mktemp("cdk")
    chosen = context(models=["a-model"], alarm_email="ops@example.com", waf=True)
    app = aws_cdk.App(context=chosen, outdir=str(folder))
    InferLine(app, Options.from_context(chosen))
    packs = (AwsSolutionsChecks(app), ServerlessChecks(app))
    aws_cdk.Validations.of(app).add_plugins(*packs)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    return folder


def test_cdk_nag_finds_nothing_but_what_has_its_reason(checked: Path) -> None:
    report: dict[str, Any] = json.loads((checked / "validation-report.json").read_text())

    assert {"AwsSolutions", "Serverless"} == {
        pack["pluginName"] for pack in report["pluginReports"]
    }
    rules = {
        violation["ruleName"]
        for pack in report["pluginReports"]
        for violation in pack["violations"]
    }
    assert set(NAG) == rules


def test_cfn_lint_finds_nothing(checked: Path) -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("cfn-lint"), "--ignore-checks", *LINT),
            *("--regions", "us-east-1", "--template", checked / "inferline.template.json"),
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.skipif(
    not CHECKOV.exists() and not os.environ.get("CI"),
    reason="checkov is missing: make install",
)
def test_checkov_finds_nothing_but_what_has_its_reason(checked: Path) -> None:
    done = subprocess.run(
        [
            *(CHECKOV, "--quiet", "--compact", "--framework", "cloudformation"),
            *("--output", "json", "--file", checked / "inferline.template.json"),
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )

    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert set(CHECKS) == {failed["check_id"] for failed in report["results"]["failed_checks"]}
