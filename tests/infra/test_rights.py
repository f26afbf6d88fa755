"""Who may do what: every action written down, and IAM's own questions answered by simulation."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inferline.aws.lending import session_policy
from inferline.names import dedicated_name, slug
from inferline.settings import Settings
from tests.support.template import ACCOUNT, REGION, Template, listed

HERE = Path(__file__).parent
SIMULATOR = HERE / "node_modules" / "@cloud-copilot" / "iam-simulate"

LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACE = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
READ = {"kms:Decrypt", "kms:DescribeKey"}
WRITE = READ | {"kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
#: Of who answers requests about files and batches: the star is a tenant or an upload.
KEEPING_FILES = {
    "FILE#*": {
        *("dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
    },
    "UPLOAD#*": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
    "PART#*": {"dynamodb:PutItem", "dynamodb:Query"},
    "BATCH#*": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"},
    "BATCH": {"dynamodb:PutItem"},
}
#: By whom, and what they are done to, without the place.
EXPECTED = {
    "inference": {
        "table/inferline-tasks": {
            *("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
            "dynamodb:Query",
        },
        "index/live": {"dynamodb:Query"},
        "MODEL": {"dynamodb:GetItem", "dynamodb:Query"},
        "FLEET": {"dynamodb:GetItem"},
        "MINUTE": {"dynamodb:UpdateItem"},
        "METER": {"dynamodb:UpdateItem"},
        "STRIKE": {"dynamodb:UpdateItem"},
        "PROVIDER": {"dynamodb:UpdateItem"},
        "queues": {"sqs:GetQueueAttributes", "sqs:SendMessage"},
        "bodies/*": {"s3:PutObject"},
        "key": WRITE,
    },
    "control": {
        "table/inferline-tasks": {"dynamodb:BatchGetItem"},
        "index/live": {"dynamodb:Query", "dynamodb:Scan"},
        "index/ended": {"dynamodb:Query"},
        "MODEL": {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        "PROVIDER": {
            *("dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
        },
        "FLEET": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "MINUTE": {"dynamodb:Query"},
        "USAGE": {"dynamodb:GetItem", "dynamodb:Query"},
        "KEY": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        "USE": {"dynamodb:Query"},
        "TENANT": {"dynamodb:GetItem", "dynamodb:Query"},
        "METER": {"dynamodb:UpdateItem"},
        "queues": {"sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"},
        "inferline-dead-letters": {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"},
        "role/inferline-provider": {"sts:AssumeRole"},
        "files/*": {"s3:DeleteObject", "s3:GetObject", "s3:PutObject"},
        **KEEPING_FILES,
        "key": WRITE,
    },
    "authorizer": {
        "KEY": {"dynamodb:GetItem"},
        "TENANT": {"dynamodb:GetItem"},
        "USE": {"dynamodb:UpdateItem"},
        "key": WRITE,
    },
    "dead_letters": {
        "table/inferline-tasks": {"dynamodb:BatchGetItem", "dynamodb:UpdateItem"},
        "inferline-dead-letters": {
            *("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
            "sqs:ReceiveMessage",
        },
        "key": WRITE,
    },
    "sweep": {
        "table/inferline-tasks": {
            *("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        },
        "index/live": {"dynamodb:Query", "dynamodb:Scan"},
        "index/ended": {"dynamodb:Query"},
        "MODEL": {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        "PROVIDER": {"dynamodb:DeleteItem", "dynamodb:Query"},
        "FLEET": {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        "MINUTE": {"dynamodb:Query", "dynamodb:UpdateItem"},
        "USAGE": {
            *("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"),
            "dynamodb:UpdateItem",
        },
        "KEY": {"dynamodb:GetItem"},
        "TENANT": {"dynamodb:GetItem"},
        "METER": {"dynamodb:UpdateItem"},
        "FILE#*": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "BATCH#*": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "BATCH": {"dynamodb:DeleteItem", "dynamodb:Query"},
        "queues": {"sqs:GetQueueUrl", "sqs:SendMessage"},
        "files/*": {"s3:DeleteObject", "s3:GetObject", "s3:PutObject"},
        "key": WRITE,
    },
    "gateway": {
        "table/inferline-tasks": {
            *("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
            "dynamodb:Query",
        },
        "index/live": {"dynamodb:Query", "dynamodb:Scan"},
        "index/ended": {"dynamodb:Query"},
        "KEY": {"dynamodb:GetItem"},
        "TENANT": {"dynamodb:GetItem"},
        "USE": {"dynamodb:UpdateItem"},
        "FLEET": {"dynamodb:GetItem"},
        "MODEL": {"dynamodb:GetItem", "dynamodb:Query"},
        "PROVIDER": {"dynamodb:Query", "dynamodb:UpdateItem"},
        "STRIKE": {"dynamodb:UpdateItem"},
        "MINUTE": {"dynamodb:Query", "dynamodb:UpdateItem"},
        "METER": {"dynamodb:UpdateItem"},
        "USAGE": {"dynamodb:GetItem", "dynamodb:Query"},
        "queues": {"sqs:GetQueueAttributes", "sqs:SendMessage"},
        "inferline-dead-letters": {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"},
        "bodies/*": {"s3:PutObject"},
        "files/*": {"s3:DeleteObject", "s3:GetObject", "s3:PutObject"},
        **KEEPING_FILES,
        "BATCH": {"dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:Query"},
        "key": WRITE,
    },
    "publisher": {"page/dashboard/*": {"s3:DeleteObject", "s3:PutObject"}},
    "provider": {
        "table/inferline-tasks": {
            *("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem"),
        },
        "queues": {"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"},
        "bodies/*": {"s3:GetObject"},
        "files/*": {"s3:GetObject", "s3:PutObject"},
        "key": WRITE,
    },
}
#: What has to be allowed on everything, and why.
ON_EVERYTHING = {
    "xray:PutTelemetryRecords": "X-Ray knows no resources.",
    "xray:PutTraceSegments": "X-Ray knows no resources.",
}


def who(name: str) -> str:
    """Return a function's or the provider's name, from its role's or its policy's."""
    return name.removeprefix("inferline-").removeprefix("Functions").partition("role")[0]


def about(statement: dict[str, Any]) -> list[str]:
    """Return what a statement is about, a word each: for the registry, the kinds of its rows."""
    if str(listed(statement["Resource"])[0]).endswith("table/inferline-registry"):
        condition = statement["Condition"]
        assert {"dynamodb:LeadingKeys": "false"} == condition["Null"]
        return listed(condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
    return [what(statement["Resource"])]


def what(arns: Any) -> str:
    """Return what a resource is, in one word."""
    first = str(listed(arns)[0])
    if first.endswith(("-default", "-flex", "-priority", "-batch")):
        return "queues"
    if ":kms:" in first:
        return "key"
    if first.startswith("arn:aws:s3:::inferline-"):
        return first.split("-")[1] + "/" + first.partition("/")[2]
    tail = first.rpartition(":")[2]
    return tail.partition("/")[2].partition("/")[2] if "/index/" in tail else tail


def granted(template: Template) -> dict[str, dict[str, set[str]]]:
    """Return every action by whom and what, but for logs and traces."""
    rights: dict[str, dict[str, set[str]]] = {}
    for name, statement in template.statements():
        actions = set(listed(statement["Action"])) - LOG - TRACE
        if actions:
            person = who(name).replace("deadletters", "dead_letters")
            for noun in about(statement):
                rights.setdefault(person, {}).setdefault(noun, set()).update(actions)
    return rights


class TestActions:
    def test_everybody_has_exactly_these(self, template: Template) -> None:
        assert EXPECTED == granted(template)

    def test_none_ends_in_a_star(self, template: Template) -> None:
        starred = [
            action
            for _, statement in template.statements()
            for action in listed(statement["Action"])
            if "*" in action
        ]
        assert [] == starred

    def test_only_traces_are_allowed_on_everything_where_there_are_any(
        self, template: Template, guarded: Template
    ) -> None:
        for allowed, one in ((set(), template), (set(ON_EVERYTHING), guarded)):
            everywhere = {
                action
                for _, statement in one.statements()
                if "*" in listed(statement["Resource"])
                for action in listed(statement["Action"])
            }
            assert allowed == everywhere

    def test_a_star_in_a_resource_stands_for_a_model_or_an_object(self, template: Template) -> None:
        starred = {
            what(resource)
            for _, statement in template.statements()
            for resource in listed(statement["Resource"])
            if "*" in resource and resource != "*" and not resource.endswith(":*")
        }
        assert {"queues", "bodies/*", "files/*", "page/dashboard/*"} == starred

    def test_the_key_is_used_through_services_only(self, template: Template) -> None:
        for _, statement in template.statements():
            if what(statement["Resource"]) == "key":
                services = statement["Condition"]["StringEquals"]["kms:ViaService"]
                assert all(s.endswith(f".{REGION}.amazonaws.com") for s in listed(services))

    def test_only_control_takes_the_provider_role(self, template: Template) -> None:
        roles = template.of("AWS::IAM::Role")
        [provider] = [r for r in roles.values() if r.get("RoleName") == "inferline-provider"]
        [control] = [name for name in roles if name.startswith("Functionscontrolrole")]

        [trust] = provider["AssumeRolePolicyDocument"]["Statement"]

        assert trust["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{control}"}
        assert trust["Action"] == "sts:AssumeRole"


@pytest.fixture(scope="module")
def simulate() -> Any:
    """Return the answers questions, all in one go: the simulator takes a second to start."""
    if not SIMULATOR.exists():
        if os.environ.get("CI"):
            pytest.fail("The IAM simulator is missing: make install")
        pytest.skip("The IAM simulator is missing: make install")
    from infra import NODE

    def ask(questions: Sequence[dict[str, Any]]) -> list[Any]:
        done = subprocess.run(
            [str(NODE), "simulate.mjs"],
            cwd=HERE,
            input=json.dumps(questions),
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return ask


OWN, OTHER = slug("llama-3.1-8b"), slug("qwen/qwen3-32b")
#: The one model, as far as it is reserved for a tenant, and for another.
RESERVED, OTHERS = (
    slug(dedicated_name("llama-3.1-8b", "acme")),
    slug(dedicated_name("llama-3.1-8b", "globex")),
)
TASKS = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/inferline-tasks"
REGISTRY = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/inferline-registry"
BODIES = f"arn:aws:s3:::inferline-bodies-{ACCOUNT}-{REGION}"
FILES = f"arn:aws:s3:::inferline-files-{ACCOUNT}-{REGION}"


def queue(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:inferline-{name}"


def keys(*key: str) -> dict[str, Any]:
    return {"dynamodb:LeadingKeys": list(key)}


#: Of a provider that serves the one model.
ALLOWED = [
    ("sqs:ReceiveMessage", queue(f"{OWN}-default"), {}),
    ("sqs:DeleteMessage", queue(f"{OWN}-priority"), {}),
    ("sqs:ChangeMessageVisibility", queue(f"{OWN}-flex"), {}),
    ("dynamodb:UpdateItem", TASKS, keys(f"{OWN}#req_1")),
    ("dynamodb:BatchGetItem", TASKS, keys(f"{OWN}#req_1", f"{OWN}#req_2")),
    ("dynamodb:BatchWriteItem", TASKS, keys(f"{OWN}#req_1")),
    ("s3:GetObject", f"{BODIES}/{OWN}/req_1", {}),
    ("sqs:ReceiveMessage", queue(f"{OWN}-batch"), {}),
    ("s3:GetObject", f"{FILES}/{OWN}/batch_1/0/lines.jsonl", {}),
    ("s3:PutObject", f"{FILES}/{OWN}/batch_1/0/0-0.output.jsonl", {}),
]
DENIED = [
    ("sqs:ReceiveMessage", queue(f"{OTHER}-default"), {}),
    ("sqs:DeleteMessage", queue(f"{OTHER}-default"), {}),
    ("sqs:ReceiveMessage", queue("dead-letters"), {}),
    ("sqs:SendMessage", queue(f"{OWN}-default"), {}),
    ("sqs:PurgeQueue", queue(f"{OWN}-default"), {}),
    ("sqs:CreateQueue", queue(f"{OWN}-default"), {}),
    ("dynamodb:Scan", TASKS, {}),
    ("dynamodb:Query", f"{TASKS}/index/live", {}),
    ("dynamodb:Query", f"{TASKS}/index/ended", {}),
    ("dynamodb:UpdateItem", TASKS, {}),  # Without a leading key.
    ("dynamodb:UpdateItem", TASKS, keys(f"{OTHER}#req_1")),
    ("dynamodb:BatchWriteItem", TASKS, keys(f"{OWN}#req_1", f"{OTHER}#req_1")),
    ("dynamodb:DeleteItem", TASKS, keys(f"{OWN}#req_1")),
    ("dynamodb:UpdateItem", REGISTRY, keys(f"{OWN}#req_1")),
    ("dynamodb:GetItem", REGISTRY, keys("KEY")),
    ("s3:GetObject", f"{BODIES}/{OTHER}/req_1", {}),
    ("s3:PutObject", f"{BODIES}/{OWN}/req_1", {}),
    ("s3:GetObject", f"{FILES}/{OTHER}/batch_1/0/lines.jsonl", {}),
    ("s3:PutObject", f"{FILES}/{OTHER}/batch_1/0/0-0.output.jsonl", {}),
    ("s3:DeleteObject", f"{FILES}/{OWN}/batch_1/0/lines.jsonl", {}),
    ("s3:GetObject", f"arn:aws:s3:::another-bucket/{OWN}/req_1", {}),
    ("dynamodb:GetItem", REGISTRY, keys("FILE#acme")),
    ("dynamodb:GetItem", REGISTRY, keys("BATCH#acme")),
]
#: What a tenant uploads, though the tenant is called as the model is.
UPLOADED = [
    ("s3:GetObject", f"{FILES}/files/{OWN}/file_1/0", {}),
    ("s3:PutObject", f"{FILES}/files/{OWN}/file_1/0", {}),
    ("s3:GetObject", f"{FILES}/files/{OTHER}/file_1/segments.json", {}),
]


def question(
    policies: Sequence[tuple[str, Any]],
    asked: tuple[str, str, dict[str, Any]],
    session: Any = None,
    resource_policy: Any = None,
) -> dict[str, Any]:
    """Return a question in the simulator's words, asked by a session of a role of the account."""
    action, resource, context = asked
    anything = {"Version": "2012-10-17", "Statement": []}
    anything["Statement"].append({"Effect": "Allow", "Action": "*", "Resource": "*"})
    everything = {"name": "all", "policy": anything}
    return {
        "request": {
            "principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/somebody/session",
            "action": action,
            "resource": {"resource": resource, "accountId": ACCOUNT},
            "contextVariables": context,
        },
        "identityPolicies": [{"name": name, "policy": policy} for name, policy in policies],
        "serviceControlPolicies": [{"orgIdentifier": "ou-1", "policies": [everything]}],
        "resourceControlPolicies": [],
        **({"sessionPolicy": session} if session else {}),
        **({"resourcePolicy": resource_policy} if resource_policy else {}),
    }


def lent(template: Template, *slugs: str) -> Any:
    """Return a question of a session that was lent for some models."""
    roles = template.of("AWS::IAM::Role").values()
    [role] = [role for role in roles if role.get("RoleName") == "inferline-provider"]
    [policy] = role["Policies"]
    variables = template.named("AWS::Lambda::Function", "FunctionName")["inferline-control"]
    settings = Settings.from_env(variables["Environment"]["Variables"])
    session = json.loads(session_policy(settings, slugs))
    policies = [(policy["PolicyName"], policy["PolicyDocument"])]
    return partial(question, policies, session=session)


@pytest.fixture
def provider_asks(template: Template) -> Any:
    """Return a question of a session that was lent for the one model."""
    return lent(template, OWN)


@pytest.fixture
def instance_asks(template: Template) -> Any:
    """Return a question of a host that has the policy for instances."""
    policies = template.named("AWS::IAM::ManagedPolicy", "ManagedPolicyName")
    policy = policies["inferline-provider"]["PolicyDocument"]
    return partial(question, [("inferline-provider", policy)])


def work(of: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what it takes to run a model's tasks."""
    return [
        ("sqs:ReceiveMessage", queue(f"{of}-default"), {}),
        ("sqs:DeleteMessage", queue(f"{of}-flex"), {}),
        ("dynamodb:BatchGetItem", TASKS, keys(f"{of}#req_1")),
        ("dynamodb:UpdateItem", TASKS, keys(f"{of}#req_1")),
        ("s3:GetObject", f"{BODIES}/{of}/req_1", {}),
        ("s3:GetObject", f"{FILES}/{of}/batch_1/0/lines.jsonl", {}),
        ("s3:PutObject", f"{FILES}/{of}/batch_1/0/0-0.error.jsonl", {}),
    ]


class TestProvider:
    def test_it_may_do_all_that_its_models_need(self, simulate: Any, provider_asks: Any) -> None:
        answers = simulate([provider_asks(asked) for asked in ALLOWED])

        assert ["Allowed"] * len(ALLOWED) == answers

    def test_it_may_do_nothing_else(self, simulate: Any, provider_asks: Any) -> None:
        answers = simulate([provider_asks(asked) for asked in DENIED])

        assert ["ImplicitlyDenied"] * len(DENIED) == answers

    def test_it_reads_and_writes_no_file_of_a_tenant(
        self, simulate: Any, provider_asks: Any, instance_asks: Any
    ) -> None:
        answers = simulate([ask(one) for ask in (provider_asks, instance_asks) for one in UPLOADED])

        assert {"ExplicitlyDenied"} == set(answers)

    def test_it_uses_the_key_only_through_the_stores(
        self, simulate: Any, provider_asks: Any, template: Template
    ) -> None:
        [(name, made)] = template.of("AWS::KMS::Key").items()
        key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}"
        via = {"kms:ViaService": f"sqs.{REGION}.amazonaws.com"}

        through, directly = simulate(
            [
                provider_asks(("kms:Decrypt", key, context), resource_policy=made["KeyPolicy"])
                for context in (via, {})
            ]
        )

        assert (through, directly) == ("Allowed", "ImplicitlyDenied")


class TestReserved:
    """A tenant's prompts are for the providers of its list alone."""

    def test_a_provider_of_the_model_reaches_no_reserved_task(
        self, simulate: Any, provider_asks: Any
    ) -> None:
        answers = simulate([provider_asks(asked) for asked in work(RESERVED)])

        assert {"ImplicitlyDenied"} == set(answers)

    def test_one_that_is_on_the_list_reaches_its_tenants_and_no_other_ones(
        self, simulate: Any, template: Template
    ) -> None:
        asks = lent(template, OWN, RESERVED)

        answers = simulate([asks(one) for of in (OWN, RESERVED, OTHERS) for one in work(of)])

        assert [*["Allowed"] * 14, *["ImplicitlyDenied"] * 7] == answers

    def test_a_host_with_rights_of_its_own_reaches_all_but_what_is_reserved(
        self, simulate: Any, instance_asks: Any
    ) -> None:
        answers = simulate([instance_asks(one) for of in (OWN, RESERVED) for one in work(of)])

        assert [*["Allowed"] * 7, *["ExplicitlyDenied"] * 7] == answers


class TestFunctions:
    def asks(
        self, template: Template, name: str, asked: tuple[str, str, dict[str, Any]]
    ) -> dict[str, Any]:
        policies = [
            (role, policy["PolicyDocument"])
            for policy in template.of("AWS::IAM::Policy").values()
            for role in policy["Roles"]
            if who(role) == name
        ]
        assert policies
        return question(policies, asked)

    def test_inference_sends_and_does_not_receive(self, simulate: Any, template: Template) -> None:
        own = queue(f"{OWN}-default")
        asked = [("sqs:SendMessage", own, {}), ("sqs:ReceiveMessage", own, {})]

        answers = simulate([self.asks(template, "inference", one) for one in asked])

        assert ["Allowed", "ImplicitlyDenied"] == answers

    def test_inference_reads_models_and_writes_none(
        self, simulate: Any, template: Template
    ) -> None:
        asked = [
            ("dynamodb:GetItem", REGISTRY, keys("MODEL")),
            ("dynamodb:GetItem", REGISTRY, keys("FLEET")),
            ("dynamodb:UpdateItem", REGISTRY, keys("MODEL")),
            ("dynamodb:UpdateItem", REGISTRY, keys("FLEET")),
            ("dynamodb:Query", REGISTRY, keys("PROVIDER")),
            ("dynamodb:PutItem", REGISTRY, keys("PROVIDER")),
        ]

        answers = simulate([self.asks(template, "inference", one) for one in asked])

        assert [*["Allowed"] * 2, *["ImplicitlyDenied"] * 4] == answers

    def test_inference_counts_against_limits_and_changes_none(
        self, simulate: Any, template: Template
    ) -> None:
        asked = [
            ("dynamodb:UpdateItem", REGISTRY, keys("METER")),
            ("dynamodb:DeleteItem", REGISTRY, keys("METER")),
            ("dynamodb:PutItem", REGISTRY, keys("METER")),
            ("dynamodb:UpdateItem", REGISTRY, keys("KEY")),
            ("dynamodb:UpdateItem", REGISTRY, keys("TENANT")),
        ]

        answers = simulate([self.asks(template, "inference", one) for one in asked])

        assert ["Allowed", *["ImplicitlyDenied"] * 4] == answers

    def test_control_makes_this_stacks_queues_only(self, simulate: Any, template: Template) -> None:
        others = f"arn:aws:sqs:{REGION}:{ACCOUNT}:another-{OWN}-default"
        asked = [
            ("sqs:CreateQueue", queue(f"{OWN}-default"), {}),
            ("sqs:CreateQueue", others, {}),
            ("sqs:SendMessage", queue(f"{OWN}-default"), {}),
            ("sqs:DeleteQueue", queue(f"{OWN}-default"), {}),
        ]

        answers = simulate([self.asks(template, "control", one) for one in asked])

        assert ["Allowed", *["ImplicitlyDenied"] * 3] == answers

    def test_the_authorizer_reads_one_key_and_changes_none(
        self, simulate: Any, template: Template
    ) -> None:
        asked = [
            ("dynamodb:GetItem", REGISTRY, keys("KEY")),
            ("dynamodb:Query", REGISTRY, keys("KEY")),
            ("dynamodb:PutItem", REGISTRY, keys("KEY")),
            ("dynamodb:UpdateItem", REGISTRY, keys("KEY")),
            ("dynamodb:UpdateItem", REGISTRY, keys("TENANT")),
            ("dynamodb:GetItem", TASKS, keys(f"{OWN}#req_1")),
        ]

        answers = simulate([self.asks(template, "authorizer", one) for one in asked])

        assert ["Allowed", *["ImplicitlyDenied"] * 5] == answers
