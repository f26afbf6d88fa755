"""What a function or a provider may do: actions by the noun they are done to, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from inferline.aws.dynamodb.task_rows import ENDED_KEY, LIVE_KEY
from inferline.aws.lending import KEY_ACTIONS
from inferline.tasks.task import QUEUE_TIERS
from infra.queues import Queues
from infra.storage import Storage

#: What the services do with the key for somebody who only reads.
KEY_TO_READ: Final = ("kms:Decrypt", "kms:DescribeKey")
#: What stands in a kind of rows for the tenant or the thing that has a partition of its own.
_EACH: Final = "#*"
#: The actions that encrypt.
_WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem", "SendMessage", "PutObject"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Actions, without their service's name, on each of the stack's nouns."""

    tasks: Sequence[str] = ()
    #: On the index of live tasks.
    live: Sequence[str] = ()
    #: On the index of tasks that have ended.
    ended: Sequence[str] = ()
    #: By the kind of the registry's rows, which is their partition; a star stands for any name.
    registry: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: On the queues of all models, those that are yet to come as well.
    queues: Sequence[str] = ()
    dead_letters: Sequence[str] = ()
    bodies: Sequence[str] = ()
    #: On the objects of files and batches.
    files: Sequence[str] = ()

    def statements(self, storage: Storage, queues: Queues) -> list[iam.PolicyStatement]:
        """Return the rights as statements, one for each noun and one for the key."""
        stack = storage.stack_name
        live, ended = (f"{storage.tasks.table_arn}/index/{name}" for name in (LIVE_KEY, ENDED_KEY))
        granted = [
            ("Tasks", "dynamodb", self.tasks, [storage.tasks.table_arn]),
            ("Live", "dynamodb", self.live, [live]),
            ("Ended", "dynamodb", self.ended, [ended]),
            ("Queues", "sqs", self.queues, queue_arns(stack)),
            ("DeadLetters", "sqs", self.dead_letters, [queues.dead_letters.queue_arn]),
            ("Bodies", "s3", self.bodies, [storage.bodies.arn_for_objects("*")]),
            ("Files", "s3", self.files, [storage.files.arn_for_objects("*")]),
        ]
        policies = [
            iam.PolicyStatement(
                sid=sid, actions=[f"{service}:{action}" for action in actions], resources=resources
            )
            for sid, service, actions, resources in granted
            if actions
        ]
        policies += [_rows(storage, kinds, actions) for actions, kinds in self._kinds().items()]
        services = {service for _, service, actions, _ in granted if actions}
        services |= {"dynamodb"} if self.registry else set()
        actions = KEY_ACTIONS if self._writes() else KEY_TO_READ
        return [*policies, through_services(storage, actions, sorted(services))] if policies else []

    def _kinds(self) -> dict[tuple[str, ...], list[str]]:
        """Return the kinds of rows by their actions: AWS limits the length of a policy."""
        kinds: dict[tuple[str, ...], list[str]] = {}
        for kind, actions in self.registry.items():
            kinds.setdefault(tuple(sorted(actions)), []).append(kind)
        return kinds

    def _writes(self) -> bool:
        registry = (action for actions in self.registry.values() for action in actions)
        every = (*self.tasks, *registry, *self.queues, *self.bodies, *self.files)
        return not _WRITES.isdisjoint(every)


def through_services(
    storage: Storage, actions: Sequence[str], services: Sequence[str]
) -> iam.PolicyStatement:
    """Return the use of the key that ``services`` make of it for their caller, and no other."""
    return iam.PolicyStatement(
        sid="Key",
        actions=list(actions),
        resources=[storage.key.key_arn],
        conditions={
            "StringEquals": {
                "kms:ViaService": [f"{name}.{Aws.REGION}.amazonaws.com" for name in services]
            }
        },
    )


def _rows(storage: Storage, kinds: Sequence[str], actions: Sequence[str]) -> iam.PolicyStatement:
    """Return the actions on the registry's rows of some kinds."""
    names = "".join(kind.capitalize().replace(_EACH, "Each") for kind in kinds)
    return iam.PolicyStatement(
        sid=f"Registry{names}",
        actions=[f"dynamodb:{action}" for action in actions],
        resources=[storage.registry.table_arn],
        conditions={
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(kinds)},
            # Without keys in the request the condition above would hold.
            "Null": {"dynamodb:LeadingKeys": "false"},
        },
    )


def queue_arns(stack: str) -> list[str]:
    """Return the ARNs that the queues of all models have, and no other queue of the stack."""
    place = f"arn:{Aws.PARTITION}:sqs:{Aws.REGION}:{Aws.ACCOUNT_ID}"
    return [f"{place}:{stack}-*-{tier}" for tier in QUEUE_TIERS]
