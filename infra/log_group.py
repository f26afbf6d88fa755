"""Log groups: encrypted, kept for as long as the operator says, gone with the stack."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(scope: Construct, name: str, path: str, days: int, key: kms.IKey) -> logs.LogGroup:
    """Return the log group at ``path``."""
    group = logs.LogGroup(
        scope, name, log_group_name=path, encryption_key=key, removal_policy=RemovalPolicy.DESTROY
    )
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)
    resource.retention_in_days = days
    return group
