"""A synthesised CloudFormation template, as the tests of infra ask it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.once import once

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"
REGION = "eu-central-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
}
#: What a resource is called, and its ARN by that name.
NAMES = {
    "AWS::DynamoDB::Table": ("TableName", "arn:aws:dynamodb:{region}:{account}:table/{name}"),
    "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{name}"),
    "AWS::SQS::Queue": ("QueueName", "arn:aws:sqs:{region}:{account}:{name}"),
    "AWS::KMS::Key": ("", "arn:aws:kms:{region}:{account}:key/{name}"),
    "AWS::IAM::Role": ("RoleName", "arn:aws:iam::{account}:role/{name}"),
    "AWS::Lambda::Function": (
        "FunctionName",
        "arn:aws:lambda:{region}:{account}:function:{name}",
    ),
    "AWS::Logs::LogGroup": (
        "LogGroupName",
        "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    ),
}


def context(**options: Any) -> dict[str, Any]:
    """Return the context of cdk.json with some options changed, and no bundle made."""
    ours: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return {**ours, "aws:cdk:bundling-stacks": [], **options}


def synthesised(folders: pytest.TempPathFactory, **options: Any) -> Template:
    """Return the template of the stack with these options; each is made once in a run."""

    def synthesise(path: Path) -> None:
        from infra.stack import app

        assembly = app(context(**options)).synth()
        path.write_text(json.dumps(assembly.stacks[0].template))

    name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
    return Template(json.loads(once(folders, f"template-{name}.json", synthesise).read_text()))


@dataclass(frozen=True)
class Template:
    """The template, with its references settled as an account would."""

    raw: Mapping[str, Any]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the settled properties of each resource of a kind, by logical id."""
        return {
            name: self.settled(resource.get("Properties", {}))
            for name, resource in self.raw["Resources"].items()
            if resource["Type"] == kind
        }

    def one(self, kind: str) -> dict[str, Any]:
        """Return the settled properties of the only resource of a kind."""
        [resource] = self.of(kind).values()
        return resource

    def named(self, kind: str, key: str) -> dict[str, dict[str, Any]]:
        """Return the settled properties of each resource of a kind, by its own name."""
        return {resource[key]: resource for resource in self.of(kind).values()}

    def settled(self, value: Any) -> Any:
        """``value`` with every reference replaced by what it stands for."""
        if isinstance(value, list):
            return [self.settled(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Ref"}:
            return self._ref(value["Ref"])
        if set(value) == {"Fn::GetAtt"}:
            return self._attribute(*value["Fn::GetAtt"])
        if set(value) == {"Fn::Join"}:
            glue, parts = value["Fn::Join"]
            return glue.join(map(str, self.settled(parts)))
        return {name: self.settled(item) for name, item in value.items()}

    def _ref(self, name: str) -> str:
        if name in PSEUDO:
            return PSEUDO[name]
        resource = self.raw["Resources"].get(name, {})
        key, _ = NAMES.get(resource.get("Type", ""), ("", ""))
        return str(self.settled(resource.get("Properties", {}).get(key, name)))

    def _attribute(self, name: str, attribute: str) -> str:
        kind = self.raw["Resources"][name]["Type"]
        if attribute == "Arn" and kind in NAMES:
            return NAMES[kind][1].format(region=REGION, account=ACCOUNT, name=self._ref(name))
        return f"{name}.{attribute}"

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        Yield each allowing statement of an identity, and whose it is: a role's or a policy's name.
        """
        for policy in self.of("AWS::IAM::Policy").values():
            [role] = policy["Roles"]
            yield from ((role, one) for one in _allowing(policy))
        for policy in self.of("AWS::IAM::ManagedPolicy").values():
            yield from ((policy["ManagedPolicyName"], one) for one in _allowing(policy))
        for role in self.of("AWS::IAM::Role").values():
            for policy in role.get("Policies", ()):
                yield from ((role["RoleName"], one) for one in _allowing(policy))


def _allowing(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    statements = policy["PolicyDocument"]["Statement"]
    return [statement for statement in statements if statement["Effect"] == "Allow"]


def listed(value: Any) -> list[Any]:
    """IAM writes a list of one without brackets."""
    return value if isinstance(value, list) else [value]
