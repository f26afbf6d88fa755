"""The Lambda functions: one table of them, and one way to make each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from inferline.aws.dynamodb.keys import KEYS, USES
from inferline.aws.dynamodb.minutes import MINUTES
from inferline.aws.dynamodb.rate_counters import RATE_COUNTERS
from inferline.aws.dynamodb.registry import FLEET, MODELS, PROVIDERS, STRIKES
from inferline.aws.dynamodb.tenants import TENANTS
from inferline.aws.dynamodb.usage import USAGE
from inferline.aws.files.batches import LIVE_BATCHES
from infra import asset
from infra.environment import environment
from infra.log_group import log_group
from infra.options import Options
from infra.queues import Queues
from infra.rights import Rights
from infra.storage import Storage

#: The Lambda Web Adapter 1.1.0, AWS's layer that makes a web server's answer a stream.
ADAPTER_ACCOUNT: Final = "753240598075"
ADAPTER: Final = {"arm64": "LambdaAdapterLayerArm64:30", "x86_64": "LambdaAdapterLayerX86:30"}
NAMESPACE: Final = "InferLine"
#: The heartbeat of providers: each is a request here, while on one machine it costs nothing.
ENROL_SECONDS: Final = 30
SILENT_SECONDS: Final = 95
#: How old the functions' picture of the registry may be: each waits with its own.
REGISTRY_SECONDS: Final = 10
#: With streaming an answer may take what Lambda allows, less the time to say that it took too long;
#: API Gateway wants to see something of it each five minutes.
LONG_ANSWERS: Final = {
    "request_seconds_max": "880",
    "first_byte_seconds_max": "880",
    "keepalive_after_seconds": "240",
}
#: Polling times. A function reads for one task and is billed while it waits: for answers of 20 s,
#: 0.6 s between two reads cost least.
POLLING: Final = {
    "poll_seconds_min": "0.02",
    "poll_share": "0.125",
    "poll_seconds_max": "0.6",
    "reader_seconds": "90",
    "cancel_seconds": "2",
}
#: Of the sweep, which checks the lines of batches: 50,000 of them take half a core for a minute.
#: Lambda's own disk of 512 MB has room for their 200 MB.
SWEEP_MB: Final = 1024
SWEEP_SECONDS: Final = 300
#: How long `inference` may take, by the edge. API Gateway waits 29 s for what is not streamed.
EDGE_SECONDS: Final = {"stream": 900, "buffered": 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function."""

    name: str
    does: str
    #: MB; CPU comes in proportion. None: as the operator has chosen.
    memory: int | None
    #: None: as long as the edge has it.
    seconds: int | None
    #: How many may run at once.
    at_once: int
    rights: Rights


#: The rows of files and batches: a partition for each tenant, and one for each upload's parts.
FILES: Final = "FILE#*"
UPLOADS: Final = "UPLOAD#*"
PARTS: Final = "PART#*"
BATCHES: Final = "BATCH#*"
#: Of who answers requests about files and batches.
KEEPING_FILES: Final[Mapping[str, Sequence[str]]] = {
    FILES: ("GetItem", "Query", "PutItem", "DeleteItem"),
    UPLOADS: ("GetItem", "PutItem", "UpdateItem"),
    PARTS: ("Query", "PutItem"),
    BATCHES: ("GetItem", "Query", "PutItem"),
    LIVE_BATCHES: ("PutItem",),
}
FILE_OBJECTS: Final = ("GetObject", "PutObject", "DeleteObject")
#: Of who takes requests and waits for their answers.
INFERENCE: Final = Rights(
    tasks=("PutItem", "UpdateItem", "BatchGetItem", "Query"),
    live=("Query",),
    registry={
        MODELS: ("GetItem", "Query"),
        FLEET: ("GetItem",),
        MINUTES: ("UpdateItem",),
        RATE_COUNTERS: ("UpdateItem",),
        # It sees what providers write, and quarantines them for it.
        STRIKES: ("UpdateItem",),
        PROVIDERS: ("UpdateItem",),
    },
    queues=("SendMessage", "GetQueueAttributes"),
    bodies=("PutObject",),
)
FUNCTIONS: Final = (
    Function(
        name="inference",
        does="Takes requests, waits for their answers and passes them on",
        memory=None,
        seconds=None,
        at_once=700,
        rights=INFERENCE,
    ),
    Function(
        name="control",
        does="Tells of models, providers and queues, enrols providers, manages keys and files",
        memory=512,
        seconds=30,
        at_once=50,
        rights=Rights(
            tasks=("BatchGetItem",),
            live=("Query", "Scan"),
            ended=("Query",),
            registry={
                **KEEPING_FILES,
                MODELS: ("GetItem", "Query", "UpdateItem"),
                PROVIDERS: ("GetItem", "Query", "PutItem", "DeleteItem"),
                FLEET: ("GetItem", "UpdateItem"),
                MINUTES: ("Query",),
                USAGE: ("GetItem", "Query"),
                KEYS: ("GetItem", "Query", "PutItem", "UpdateItem"),
                USES: ("Query",),
                # The tokens of batches count against limits.
                TENANTS: ("GetItem", "Query"),
                RATE_COUNTERS: ("UpdateItem",),
            },
            queues=("CreateQueue", "GetQueueUrl", "GetQueueAttributes"),
            dead_letters=("GetQueueUrl", "GetQueueAttributes"),
            files=FILE_OBJECTS,
        ),
    ),
    Function(
        name="authorizer",
        does="Tells API Gateway whose key a request shows",
        memory=512,
        seconds=10,
        at_once=50,
        rights=Rights(registry={KEYS: ("GetItem",), TENANTS: ("GetItem",), USES: ("UpdateItem",)}),
    ),
    Function(
        name="dead_letters",
        does="Ends tasks whose messages nobody could handle",
        memory=256,
        seconds=30,
        at_once=10,
        rights=Rights(
            tasks=("UpdateItem", "BatchGetItem"),
            dead_letters=(
                *("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"),
                "GetQueueAttributes",
            ),
        ),
    ),
    Function(
        name="sweep",
        does="Each minute ends what is overdue, counts what waits and was used, and leads batches",
        memory=SWEEP_MB,
        seconds=SWEEP_SECONDS,
        # One begins each minute, however long the others check the lines of batches.
        at_once=SWEEP_SECONDS // 60 + 1,
        rights=Rights(
            # The tasks of batches are made here.
            tasks=("PutItem", "UpdateItem", "BatchGetItem"),
            live=("Query", "Scan"),
            ended=("Query",),
            registry={
                MODELS: ("GetItem", "Query", "UpdateItem"),
                PROVIDERS: ("Query", "DeleteItem"),
                FLEET: ("GetItem", "UpdateItem"),
                MINUTES: ("Query", "UpdateItem"),
                USAGE: ("BatchGetItem", "GetItem", "Query", "UpdateItem"),
                # Which models the owner of a batch may use, and how many tokens.
                KEYS: ("GetItem",),
                TENANTS: ("GetItem",),
                RATE_COUNTERS: ("UpdateItem",),
                FILES: ("GetItem", "PutItem"),
                BATCHES: ("GetItem", "PutItem"),
                LIVE_BATCHES: ("Query", "DeleteItem"),
            },
            queues=("GetQueueUrl", "SendMessage"),
            files=FILE_OBJECTS,
        ),
    ),
)
#: Belongs to the page, which not every stack has, and may do something to its bucket alone.
PUBLISHER: Final = Function(
    name="publisher",
    does="Puts the page's files into their bucket",
    memory=256,
    seconds=60,
    at_once=1,
    rights=Rights(),
)


class Functions(Construct):
    """Every function with a role, a log and the settings of its own."""

    def __init__(
        self, scope: Construct, name: str, options: Options, storage: Storage, queues: Queues
    ) -> None:
        super().__init__(scope, name)
        self._options = options
        self._storage = storage
        self._queues = queues
        self._code = asset.code(options.architecture)
        self._roles: dict[str, iam.Role] = {}
        made = {function.name: self.make(function) for function in FUNCTIONS}
        self.inference = made["inference"]
        self.control = made["control"]
        #: Who lends out the provider role.
        self.lender = self._roles["control"]
        self.authorizer = made["authorizer"]
        self.dead_letters = made["dead_letters"]
        self.sweep = made["sweep"]
        if options.edge == "stream":
            self._stream(self.inference)
        self._take_dead_letters()
        self._sweep_each_minute()

    def lend(self, role: iam.IRole) -> None:
        """Let `control` lend sessions of ``role`` to providers."""
        self.control.add_environment(*_one(environment(provider_role=role.role_arn)))
        self.control.add_to_role_policy(
            iam.PolicyStatement(sid="Lend", actions=["sts:AssumeRole"], resources=[role.role_arn])
        )

    def make(self, function: Function) -> lambda_.Function:
        """Return the function with the rights of its row."""
        name = f"{self._options.stack}-{function.name.replace('_', '-')}"
        path, days = f"/aws/lambda/{name}", self._options.log_days
        log = log_group(self, f"{function.name}-log", path, days, self._storage.key)
        reserved = function.at_once if self._options.reserved_concurrency else None
        return lambda_.Function(
            self,
            function.name,
            function_name=name,
            description=function.does,
            code=self._code,
            handler=f"functions.{function.name}.handler",
            runtime=asset.RUNTIME,
            architecture=_architecture(self._options.architecture),
            memory_size=function.memory or self._options.inference_mb,
            timeout=Duration.seconds(function.seconds or EDGE_SECONDS[self._options.edge]),
            reserved_concurrent_executions=reserved,
            role=self._role(function, log),
            log_group=log,
            tracing=lambda_.Tracing.ACTIVE if self._options.traces else None,
            environment=self._environment(),
        )

    def _role(self, function: Function, log: logs.LogGroup) -> iam.Role:
        role = iam.Role(
            self,
            f"{function.name}-role",
            description=f"{self._options.stack}: {function.does}",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        )
        writes = iam.PolicyStatement(
            sid="Log",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[log.log_group_arn],
        )
        self._roles[function.name] = role
        for statement in (writes, *function.rights.statements(self._storage, self._queues)):
            role.add_to_policy(statement)
        return role

    def _environment(self) -> dict[str, str]:
        options, storage = self._options, self._storage
        return {
            **environment(
                stack=options.stack,
                tasks_table_override=storage.tasks.table_name,
                registry_table_override=storage.registry.table_name,
                bodies_bucket_override=storage.bodies.bucket_name,
                files_bucket_override=storage.files.bucket_name,
                kms_key=storage.key.key_arn,
                access="keys",
                models=",".join(options.models),
                enrol_seconds=str(ENROL_SECONDS),
                silent_seconds=str(SILENT_SECONDS),
                task_seconds_kept=str(options.task_seconds_kept),
                idempotency_seconds_kept=str(options.idempotency_seconds_kept),
                queue_seconds_kept=str(options.queue_seconds_kept),
                dead_letter_seconds_kept=str(options.dead_letter_seconds_kept),
                file_seconds_kept=str(options.file_seconds_kept),
                model_seconds_kept=str(options.model_seconds_kept),
                usage_days_kept=str(options.usage_days_kept),
                tenant_requests_per_minute=str(options.tenant_requests_per_minute),
                tenant_concurrent_requests=str(options.tenant_concurrent_requests),
                flush_seconds=f"{options.flush_milliseconds / 1000:g}",
                **({"compression": "gzip"} if options.compress else {}),
                cors_origins=",".join(options.cors_origins),
                registry_seconds=str(REGISTRY_SECONDS),
                **POLLING,
                **(LONG_ANSWERS if options.edge == "stream" else {}),
            ),
            "POWERTOOLS_SERVICE_NAME": options.stack,
            "POWERTOOLS_METRICS_NAMESPACE": NAMESPACE,
            "POWERTOOLS_LOG_LEVEL": "INFO",
            **({} if options.traces else {"POWERTOOLS_TRACE_DISABLED": "true"}),
        }

    def _stream(self, function: lambda_.Function) -> None:
        """Serve through the adapter, since Python's own runtime can't stream."""
        layer = ADAPTER[self._options.architecture]
        arn = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{ADAPTER_ACCOUNT}:layer:{layer}"
        function.add_layers(lambda_.LayerVersion.from_layer_version_arn(self, "adapter", arn))
        for name, value in {
            "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
            "AWS_LWA_INVOKE_MODE": "response_stream",
            "AWS_LWA_PORT": "8080",
            "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
        }.items():
            function.add_environment(name, value)
        resource = function.node.default_child
        assert isinstance(resource, lambda_.CfnFunction)
        resource.handler = "functions/run.sh"

    def _take_dead_letters(self) -> None:
        lambda_.EventSourceMapping(
            self,
            "dead-letter-source",
            target=self.dead_letters,
            event_source_arn=self._queues.dead_letters.queue_arn,
            batch_size=10,
            report_batch_item_failures=True,
        )

    def _sweep_each_minute(self) -> None:
        """Call the sweep each minute, without retries: the next call comes in a minute."""
        rule = events.Rule(
            self,
            "each-minute",
            rule_name=f"{self._options.stack}-sweep",
            description=f"{self._options.stack}: wakes the sweep",
            schedule=events.Schedule.rate(Duration.minutes(1)),
        )
        rule.add_target(
            targets.LambdaFunction(self.sweep, retry_attempts=0, max_event_age=Duration.minutes(1))
        )
        self.sweep.configure_async_invoke(retry_attempts=0, max_event_age=Duration.minutes(1))


def _architecture(name: str) -> lambda_.Architecture:
    known = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}
    return known[name]


def _one(variables: dict[str, str]) -> tuple[str, str]:
    [variable] = variables.items()
    return variable
