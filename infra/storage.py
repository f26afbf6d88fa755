"""What is stored: tasks, the registry, large bodies, files, and the key that encrypts it all."""

from __future__ import annotations

from math import ceil
from typing import Final

from aws_cdk import Aws, Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, LIVE_KEY
from inferline.aws.lending import KEY_ACTIONS
from infra.options import Options

DAY_SECONDS: Final = 24 * 3600
#: How much older than its file an object may be: a batch writes results for up to a week before
#: they become a file, and its end may come late.
BATCH_DAYS_MAX: Final = 8


class Storage(Construct):
    """The key, both tables and both buckets."""

    def __init__(self, scope: Construct, name: str, options: Options) -> None:
        super().__init__(scope, name)
        self._options = options
        self.stack_name = options.stack
        self._kept = RemovalPolicy.RETAIN if options.protect else RemovalPolicy.DESTROY
        self.key = self._key()
        # Short-lived, and a backup would keep prompts that are long deleted.
        self.tasks = self._table("tasks", backups=False)
        self.tasks.add_global_secondary_index(
            index_name=LIVE_KEY,
            partition_key=dynamodb.Attribute(name=LIVE_KEY, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="deadline_ms", type=dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.tasks.add_global_secondary_index(
            index_name=ENDED_KEY,
            partition_key=dynamodb.Attribute(name=ENDED_KEY, type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=list(ENDED_FIELDS),
        )
        self.registry = self._table("registry", backups=True)
        self.bodies = self._bucket("bodies", days=options.body_days_kept)
        file_days = ceil(options.file_seconds_kept / DAY_SECONDS)
        self.files = self._bucket("files", days=file_days + BATCH_DAYS_MAX)

    def _key(self) -> kms.Key:
        stack = self._options.stack
        key = kms.Key(
            self,
            "Key",
            alias=f"alias/{stack}",
            description=f"Encrypts all that {stack} stores",
            enable_key_rotation=True,
            removal_policy=self._kept,
            pending_window=Duration.days(7),
        )
        logs = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/*/{stack}*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Logs",
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.amazonaws.com")],
                actions=list(KEY_ACTIONS),
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
            )
        )
        return key

    def _table(self, noun: str, *, backups: bool) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            noun.capitalize(),
            table_name=f"{self._options.stack}-{noun}",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="ttl",
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=backups
            ),
            deletion_protection=self._options.protect,
            removal_policy=self._kept,
        )

    def _bucket(self, noun: str, *, days: int) -> s3.Bucket:
        """Return a bucket that deletes objects after some days."""
        return s3.Bucket(
            self,
            noun.capitalize(),
            bucket_name=f"{self._options.stack}-{noun}-{Aws.ACCOUNT_ID}-{Stack.of(self).region}",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="short",
                    expiration=Duration.days(days),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=self._kept,
        )
