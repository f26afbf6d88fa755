"""What those may do that run outside of the stack: providers, and gateways in containers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aws_cdk import aws_iam as iam
from constructs import Construct

from inferline.aws.dynamodb.keys import KEYS, USES
from inferline.aws.dynamodb.minutes import MINUTES
from inferline.aws.dynamodb.registry import PROVIDERS
from inferline.aws.dynamodb.tenants import TENANTS
from inferline.aws.dynamodb.usage import USAGE
from inferline.aws.files.batches import LIVE_BATCHES
from inferline.aws.lending import (
    BODY_ACTIONS,
    KEY_ACTIONS,
    OBJECT_ACTIONS,
    QUEUE_ACTIONS,
    TASK_ACTIONS,
)
from inferline.names import DEDICATED_SLUG_PREFIX
from infra.functions import FILE_OBJECTS, INFERENCE, KEEPING_FILES
from infra.queues import Queues
from infra.rights import queue_arns, through_services
from infra.storage import Storage

#: Of a gateway in a container: besides what the function does it knows keys, tells how all is,
#: keeps files and leads batches.
GATEWAY: Final = replace(
    INFERENCE,
    live=("Query", "Scan"),
    ended=("Query",),
    registry={
        **INFERENCE.registry,
        PROVIDERS: ("Query", "UpdateItem"),
        MINUTES: ("Query", "UpdateItem"),
        KEYS: ("GetItem",),
        USAGE: ("GetItem", "Query"),
        TENANTS: ("GetItem",),
        USES: ("UpdateItem",),
        **KEEPING_FILES,
        LIVE_BATCHES: ("Query", "PutItem", "DeleteItem"),
    },
    dead_letters=("GetQueueUrl", "GetQueueAttributes"),
    files=FILE_OBJECTS,
)


#: Where tenants' files are in their bucket.
FILES_FOLDER: Final = "files"


class OutsideRoles(Construct):
    """
    The provider role, and a policy that an instance's own role can have instead.

    A session that is lent has the role's rights only for its models. The policy is for all models
    but reserved ones: nobody has looked whom those that have it are to serve. A gateway's rights
    are a policy for the role of its container.
    """

    def __init__(
        self, scope: Construct, name: str, storage: Storage, queues: Queues, lender: iam.IRole
    ) -> None:
        super().__init__(scope, name)
        self.gateway_policy = iam.ManagedPolicy(
            self,
            "GatewayPolicy",
            managed_policy_name=f"{storage.stack_name}-gateway",
            description="What a gateway of InferLine does: queues tasks and reads their answers",
            statements=GATEWAY.statements(storage, queues),
        )
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=f"{storage.stack_name}-provider",
            description="What a provider of InferLine does: takes tasks and writes answers",
            statements=[*_statements(storage), *_unreserved(storage)],
        )
        self.role = iam.Role(
            self,
            "Role",
            role_name=f"{storage.stack_name}-provider",
            description="Lent to providers for an hour, cut down to their models",
            assumed_by=iam.ArnPrincipal(lender.role_arn),
            inline_policies={"Work": iam.PolicyDocument(statements=_statements(storage))},
        )


def _statements(storage: Storage) -> list[iam.PolicyStatement]:
    return [
        _allow("Queues", QUEUE_ACTIONS, queue_arns(storage.stack_name)),
        _allow("Tasks", TASK_ACTIONS, [storage.tasks.table_arn]),
        _allow("Bodies", BODY_ACTIONS, [storage.bodies.arn_for_objects("*")]),
        _allow("Batches", OBJECT_ACTIONS, [storage.files.arn_for_objects("*")]),
        # What tenants upload is in the same bucket. Its keys have a tenant's slug where those of
        # batches begin with a model's: rights to a model of the same name must not open them.
        _deny("NoFiles", OBJECT_ACTIONS, [storage.files.arn_for_objects(f"{FILES_FOLDER}/*")]),
        through_services(storage, KEY_ACTIONS, ("dynamodb", "s3", "sqs")),
    ]


def _unreserved(storage: Storage) -> list[iam.PolicyStatement]:
    """Deny everything that is dedicated to a tenant."""
    queues = [
        arn.replace("-*-", f"-{DEDICATED_SLUG_PREFIX}*-") for arn in queue_arns(storage.stack_name)
    ]
    objects = [
        bucket.arn_for_objects(f"{DEDICATED_SLUG_PREFIX}*")
        for bucket in (storage.bodies, storage.files)
    ]
    return [
        _deny("NoReservedQueues", QUEUE_ACTIONS, queues),
        iam.PolicyStatement(
            sid="NoReservedTasks",
            effect=iam.Effect.DENY,
            actions=list(TASK_ACTIONS),
            resources=[storage.tasks.table_arn],
            conditions={
                "ForAnyValue:StringLike": {"dynamodb:LeadingKeys": [f"{DEDICATED_SLUG_PREFIX}*"]}
            },
        ),
        _deny("NoReservedBodies", OBJECT_ACTIONS, objects),
    ]


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources))


def _deny(sid: str, actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    statement = _allow(sid, actions, resources)
    statement.effect = iam.Effect.DENY
    return statement
