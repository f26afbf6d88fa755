"""Lists what an emulator's account holds, to see that a stack leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import botocore.session

#: The service, its call, where the list is in the answer, and a thing's name; None: it is one. A
#: dot leads further in.
_LISTS: Final[tuple[tuple[str, str, str, str | None], ...]] = (
    ("apigateway", "get_rest_apis", "items", "name"),
    ("cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("cloudfront", "list_distributions", "DistributionList.Items", "DomainName"),
    ("cloudfront", "list_functions", "FunctionList.Items", "Name"),
    ("cloudfront", "list_origin_access_controls", "OriginAccessControlList.Items", "Name"),
    (
        *("cloudfront", "list_response_headers_policies"),
        *("ResponseHeadersPolicyList.Items", "ResponseHeadersPolicy.Id"),
    ),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("dynamodb", "list_tables", "TableNames", None),
    ("events", "list_rules", "Rules", "Name"),
    ("iam", "list_policies", "Policies", "PolicyName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("kms", "list_aliases", "Aliases", "AliasName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "FunctionArn"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("lambda", "list_layers", "Layers", "LayerName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", None),
    ("ssm", "describe_parameters", "Parameters", "Name"),
)


def inventory(endpoint_url: str) -> set[str]:
    """Return all that there is, each as `service name`."""
    items: set[str] = set()
    for service, call, things, name in _LISTS:
        client = emulated(service, endpoint_url)
        for thing in _at(getattr(client, call)(), things) or ():
            items.add(f"{service} {_at(thing, name) if name else thing}")
    return items | {*_keys(emulated("kms", endpoint_url))}


def _at(value: Any, path: str) -> Any:
    """Return what is at a path of names; None where there is nothing."""
    for name in path.split("."):
        value = value.get(name, {})
    return value


def emulated(service: str, endpoint_url: str) -> Any:
    """Return botocore's client of an emulator's service, with the right to everything."""
    return botocore.session.get_session().create_client(
        service,
        "us-east-1",
        endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - every emulator's
    )


def _keys(kms: Any) -> Iterator[str]:
    """Yield the keys that are not about to be deleted: AWS keeps those for a week at least."""
    for key in kms.list_keys()["Keys"]:
        described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        if described["KeyState"] != "PendingDeletion":
            yield f"kms {described['KeyId']}"
