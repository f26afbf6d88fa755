"""The AWS account that the environment names, as far as a deployment has to know of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from inferline.aws.sqs import dead_letter_name

#: Where the CDK writes down that an account and region are ready for it.
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"
#: S3's limit on one call.
DELETE_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """One account and region."""

    session: Any
    id: str
    region: str

    @classmethod
    def from_environment(cls) -> Self:
        """Return the account that the environment names. Exits if there is none."""
        session = botocore.session.get_session()
        try:
            # botocore itself reads only the older AWS_DEFAULT_REGION.
            region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
            if not region:
                raise SystemExit("No region is named: set AWS_REGION.")
            identity = session.create_client("sts", region).get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise SystemExit(f"No AWS account could be reached: {error}") from None
        return cls(session, identity["Account"], region)

    @property
    def environment(self) -> str:
        """Return the account and region as the CDK writes them."""
        return f"aws://{self.id}/{self.region}"

    def client(self, service: str) -> Any:
        """Return botocore's client of a service."""
        return self.session.create_client(service, self.region)

    def bootstrapped(self) -> bool:
        """Return whether the CDK may deploy here."""
        ssm = self.client("ssm")
        try:
            ssm.get_parameter(Name=BOOTSTRAP_PARAMETER)
        except ssm.exceptions.ParameterNotFound:
            return False
        return True

    def stack(self, name: str) -> dict[str, str] | None:
        """Return the outputs of a stack; None where there is no such stack."""
        try:
            [described] = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            return None
        return {
            output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())
        }

    def protected(self, name: str) -> bool:
        """Return whether a stack, which there is, refuses to be deleted."""
        [described] = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        return bool(described.get("EnableTerminationProtection"))

    def delete_stack(self, name: str) -> None:
        """Delete a stack and wait until it is gone. Raises WaiterError, ClientError."""
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=name, WaiterConfig={"Delay": 5, "MaxAttempts": 240}
        )

    def empty(self, bucket: str) -> int:
        """Delete what a bucket holds; gives how much that was."""
        s3 = self.client("s3")
        emptied = 0
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": DELETE_MAX}
        ):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            emptied += len(keys)
        return emptied

    def queues(self, stack: str) -> list[str]:
        """Return the URLs of a stack's queues, told from those of a stack with a longer name."""
        return list(self._queues(stack))

    def _queues(self, stack: str) -> Iterator[str]:
        """Yield those whose dead letters go to the stack's own queue."""
        sqs = self.client("sqs")
        dead = f":{dead_letter_name(stack)}"
        for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=f"{stack}-"):
            for url in page.get("QueueUrls", ()):
                attributes = sqs.get_queue_attributes(
                    QueueUrl=url, AttributeNames=["RedrivePolicy"]
                )
                policy = json.loads(attributes.get("Attributes", {}).get("RedrivePolicy", "{}"))
                if policy.get("deadLetterTargetArn", "").endswith(dead):
                    yield url

    def delete_queue(self, url: str) -> None:
        """Delete a queue. Idempotent."""
        sqs = self.client("sqs")
        try:
            sqs.delete_queue(QueueUrl=url)
        except sqs.exceptions.QueueDoesNotExist:
            return
