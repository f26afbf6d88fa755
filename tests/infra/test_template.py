"""What the stack is made of, read from the template that CloudFormation gets."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from inferline.aws.dynamodb.task_rows import ENDED_FIELDS
from inferline.aws.sqs import (
    RECEIVES_MAX,
    queue_name,
)
from inferline.gateway.routes import page
from inferline.gateway.routes.endpoints import ENDPOINTS
from inferline.options import options_of
from inferline.settings import SQS_SECONDS_MAX, Settings
from inferline.tasks.task import QUEUE_TIERS
from infra.options import documented
from tests.support.template import ACCOUNT, REGION, Template

MODELS = ("llama-3.1-8b", "qwen/qwen3-32b")
FUNCTIONS = {"inference", "control", "authorizer", "dead-letters", "sweep", "publisher"}


def methods(template: Template) -> dict[str, dict[str, object]]:
    """Return each method by its verb and path."""
    resources = template.of("AWS::ApiGateway::Resource")

    def path(resource: str) -> str:
        by_method = resources.get(resource)
        return f"{path(by_method['ParentId'])}/{by_method['PathPart']}" if by_method else ""

    return {
        f"{method['HttpMethod']} {path(method['ResourceId'])}": method
        for method in template.of("AWS::ApiGateway::Method").values()
    }


def functions(template: Template) -> dict[str, dict[str, object]]:
    """Return each function by its name without the stack's."""
    named = template.named("AWS::Lambda::Function", "FunctionName")
    return {name.removeprefix("inferline-"): function for name, function in named.items()}


def bucket(template: Template, noun: str) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Return a bucket of the stack, and what its policy says."""
    name = f"inferline-{noun}-{ACCOUNT}-{REGION}"
    policies = template.named("AWS::S3::BucketPolicy", "Bucket")
    statements = policies[name]["PolicyDocument"]["Statement"]
    return template.named("AWS::S3::Bucket", "BucketName")[name], statements


INFERENCE = {f"{e.method} {prefix}{e.path}" for e in ENDPOINTS for prefix in ("", "/v1")}
INFERENCE |= {"ANY /tasks/{proxy+}", "ANY /v1/tasks/{proxy+}"}


class TestQueues:
    def test_each_declared_model_has_a_queue_for_each_tier(self, template: Template) -> None:
        expected = {
            queue_name("inferline", model, tier) for model in MODELS for tier in QUEUE_TIERS
        }

        queues = template.named("AWS::SQS::Queue", "QueueName")

        assert expected | {"inferline-dead-letters"} == set(queues)

    def test_they_are_as_those_that_an_enrolment_makes(self, template: Template) -> None:
        queues = template.named("AWS::SQS::Queue", "QueueName")
        dead = queues.pop("inferline-dead-letters")

        for name, queue in queues.items():
            # What a batch asks may wait for its window of days.
            kept = SQS_SECONDS_MAX if name.endswith("-batch") else Settings().queue_seconds_kept
            assert kept == queue["MessageRetentionPeriod"]
            assert int(Settings().lease_seconds) == queue["VisibilityTimeout"] == 30
            assert RECEIVES_MAX == queue["RedrivePolicy"]["maxReceiveCount"]
            assert queue["RedrivePolicy"]["deadLetterTargetArn"].endswith(":inferline-dead-letters")
        assert (3600, 14 * 24 * 3600) == (Settings().queue_seconds_kept, SQS_SECONDS_MAX)
        kept = Settings().dead_letter_seconds_kept
        assert kept == dead["MessageRetentionPeriod"] == 24 * 3600
        assert "RedrivePolicy" not in dead

    def test_all_are_encrypted_with_the_stacks_key(self, template: Template) -> None:
        [key] = template.of("AWS::KMS::Key")

        for queue in template.of("AWS::SQS::Queue").values():
            assert key in queue["KmsMasterKeyId"]

    def test_all_refuse_what_comes_without_tls(self, template: Template) -> None:
        refusing = {
            statement["Resource"]
            for policy in template.of("AWS::SQS::QueuePolicy").values()
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        }

        names = {arn.rpartition(":")[2] for arn in refusing}
        assert set(template.named("AWS::SQS::Queue", "QueueName")) == names


class TestStorage:
    @pytest.mark.parametrize("noun", ["tasks", "registry"])
    def test_a_table_is_encrypted_on_demand_and_forgets(
        self, template: Template, noun: str
    ) -> None:
        table = template.named("AWS::DynamoDB::Table", "TableName")[f"inferline-{noun}"]

        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"]["SSEType"] == "KMS"
        assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}

    def test_only_the_registry_has_backups(self, template: Template) -> None:
        tables = template.named("AWS::DynamoDB::Table", "TableName")

        backups = {
            name: table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
            for name, table in tables.items()
        }
        assert backups == {"inferline-tasks": False, "inferline-registry": True}

    def test_live_tasks_are_found_by_deadline(self, template: Template) -> None:
        table = template.named("AWS::DynamoDB::Table", "TableName")["inferline-tasks"]

        [index, _] = table["GlobalSecondaryIndexes"]
        assert index["IndexName"] == "live"
        assert [k["AttributeName"] for k in index["KeySchema"]] == ["live", "deadline_ms"]
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}

    def test_ended_tasks_are_found_by_time_with_all_that_usage_is_made_of(
        self, template: Template
    ) -> None:
        table = template.named("AWS::DynamoDB::Table", "TableName")["inferline-tasks"]

        [_, index] = table["GlobalSecondaryIndexes"]
        assert index["IndexName"] == "ended"
        assert [k["AttributeName"] for k in index["KeySchema"]] == ["ended"]
        assert index["Projection"] == {
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": list(ENDED_FIELDS),
        }

    def test_bodies_are_private_and_gone_after_a_day(self, template: Template) -> None:
        bodies, _ = bucket(template, "bodies")

        assert all(bodies["PublicAccessBlockConfiguration"].values())
        [rule] = bodies["LifecycleConfiguration"]["Rules"]
        assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 1)
        [encryption] = bodies["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"

    def test_files_are_private_and_gone_a_week_after_the_longest_may_be_kept(
        self, template: Template
    ) -> None:
        files, _ = bucket(template, "files")

        assert all(files["PublicAccessBlockConfiguration"].values())
        [rule] = files["LifecycleConfiguration"]["Rules"]
        assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 38)
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
        [encryption] = files["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"

    @pytest.mark.parametrize("noun", ["bodies", "files", "page"])
    def test_what_comes_without_tls_is_refused(self, template: Template, noun: str) -> None:
        _, statements = bucket(template, noun)

        denied = [s["Condition"] for s in statements if s["Effect"] == "Deny"]
        assert {"Bool": {"aws:SecureTransport": "false"}} in denied

    def test_the_key_is_renewed_each_year(self, template: Template) -> None:
        assert template.one("AWS::KMS::Key")["EnableKeyRotation"] is True


class TestProtection:
    STORING = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key")

    def policies(self, template: Template) -> set[str]:
        """Return the policies of all storage but the bucket of the page, which is public."""
        return {
            resource["DeletionPolicy"]
            for name, resource in template.raw["Resources"].items()
            if resource["Type"] in self.STORING and not name.startswith("Page")
        }

    def test_a_stack_leaves_nothing_behind(self, template: Template) -> None:
        kept = {
            name: resource["Type"]
            for name, resource in template.raw["Resources"].items()
            if resource.get("DeletionPolicy") == "Retain"
        }
        assert {} == kept

    def test_with_protect_what_is_stored_outlives_the_stack(self, guarded: Template) -> None:
        assert {"Retain"} == self.policies(guarded)
        for table in guarded.of("AWS::DynamoDB::Table").values():
            assert table["DeletionProtectionEnabled"] is True


class TestRoutes:
    def test_every_inference_route_streams_for_fifteen_minutes(self, template: Template) -> None:
        routes = methods(template)

        for name in INFERENCE:
            integration = routes[name]["Integration"]
            assert integration["ResponseTransferMode"] == "STREAM"
            assert integration["TimeoutInMillis"] == 900_000
            assert "2021-11-15" in integration["Uri"]
            assert integration["Uri"].endswith("/response-streaming-invocations")
            assert ":function:inferline-inference/" in integration["Uri"]

    def test_everything_else_is_controls_and_buffered(self, template: Template) -> None:
        routes = methods(template)

        for name in set(routes) - INFERENCE:
            integration = routes[name]["Integration"]
            assert integration.get("ResponseTransferMode", "BUFFERED") == "BUFFERED"
            assert integration["TimeoutInMillis"] == 29_000
            assert ":function:inferline-control/" in integration["Uri"]
        assert {"ANY ", "ANY /{proxy+}", "ANY /v1/{proxy+}", "ANY /chat/{proxy+}"} <= set(routes)

    @pytest.mark.parametrize("prefix", ["", "/v1"])
    def test_files_uploads_and_batches_are_controls(self, template: Template, prefix: str) -> None:
        routes = methods(template)

        # What begins as none of the other routes does.
        assert not [name for name in routes if re.search(r"/(files|uploads|batches)", name)]
        assert f"ANY {prefix}/{{proxy+}}" in set(routes) - INFERENCE

    def test_forms_come_in_as_bytes(self, template: Template) -> None:
        assert "multipart/form-data" in template.one("AWS::ApiGateway::RestApi")["BinaryMediaTypes"]

    def test_a_buffered_edge_answers_within_29_seconds(self, buffered: Template) -> None:
        for method in methods(buffered).values():
            integration = method["Integration"]
            assert integration.get("ResponseTransferMode", "BUFFERED") == "BUFFERED"
            assert integration["TimeoutInMillis"] == 29_000
        assert "Layers" not in functions(buffered)["inference"]
        assert functions(buffered)["inference"]["Handler"] == "functions.inference.handler"

    def test_no_route_is_open(self, template: Template) -> None:
        [authorizer] = template.of("AWS::ApiGateway::Authorizer")

        for method in methods(template).values():
            assert method["AuthorizationType"] == "CUSTOM"
            assert method["AuthorizerId"] == authorizer

    def test_the_authorizer_is_asked_each_time(self, template: Template) -> None:
        authorizer = template.one("AWS::ApiGateway::Authorizer")

        # Kept by headers, its answer would want all of them to be there.
        assert ("REQUEST", 0) == (authorizer["Type"], authorizer["AuthorizerResultTtlInSeconds"])
        assert "IdentitySource" not in authorizer
        assert "IdentityValidationExpression" not in authorizer


class TestOtherOrigins:
    def test_unless_it_is_asked_for_there_are_no_preflights(self, template: Template) -> None:
        assert not [name for name in methods(template) if name.startswith("OPTIONS")]

    def test_api_gateway_answers_preflights_of_every_address_itself(self, opened: Template) -> None:
        routes = methods(opened)
        preflights = {name: one for name, one in routes.items() if name.startswith("OPTIONS")}

        assert {name.split()[1:] == [] or name.split()[1] for name in routes} == {
            name.split()[1:] == [] or name.split()[1] for name in preflights
        }
        for method in preflights.values():
            assert ("MOCK", "NONE") == (
                method["Integration"]["Type"],
                method["AuthorizationType"],
            )
        others = [one for name, one in routes.items() if name not in preflights]
        assert {"CUSTOM"} == {one["AuthorizationType"] for one in others}

    def test_a_page_can_read_a_refusal(self, opened: Template) -> None:
        for refusal in opened.of("AWS::ApiGateway::GatewayResponse").values():
            headers = refusal["ResponseParameters"]
            allowed = headers["gatewayresponse.header.access-control-allow-origin"]
            assert allowed == "method.request.header.Origin"
            assert "x-request-id" in headers["gatewayresponse.header.access-control-expose-headers"]

    def test_the_functions_let_it_read_answers(self, opened: Template) -> None:
        for name in ("inference", "control"):
            environment: Any = functions(opened)[name]["Environment"]
            origins = environment["Variables"]["INFERLINE_CORS_ORIGINS"]
            assert origins == "https://a.example,https://b.example"


class TestApi:
    def test_it_is_regional_and_its_stage_is_api(self, template: Template) -> None:
        rest = template.one("AWS::ApiGateway::RestApi")

        assert rest["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
        assert template.one("AWS::ApiGateway::Stage")["StageName"] == "api"

    def test_its_log_tells_who_and_how_long_and_nothing_that_was_said(
        self, template: Template
    ) -> None:
        stage = template.one("AWS::ApiGateway::Stage")

        logged = set(json.loads(stage["AccessLogSetting"]["Format"]).values())
        assert logged == {
            *("$context.requestId", "$context.requestTimeEpoch", "$context.identity.sourceIp"),
            *("$context.httpMethod", "$context.path", "$context.status"),
            *("$context.error.responseType", "$context.authorizer.keyId"),
            *("$context.authorizer.tenant", "$context.responseLength"),
            *("$context.responseLatency", "$context.integrationLatency"),
        }

    def test_it_is_throttled_and_told_of_without_data(self, template: Template) -> None:
        stage = template.one("AWS::ApiGateway::Stage")

        [every] = stage["MethodSettings"]
        assert every["ThrottlingRateLimit"] == 100
        assert every["ThrottlingBurstLimit"] == 200
        assert every["DataTraceEnabled"] is False
        assert every["LoggingLevel"] == "OFF"

    def test_a_firewall_stands_before_it_when_asked_for(
        self, template: Template, guarded: Template
    ) -> None:
        assert {} == template.of("AWS::WAFv2::WebACL")
        before = guarded.one("AWS::WAFv2::WebACLAssociation")
        assert before["ResourceArn"].endswith("/stages/api") or "Stage" in before["ResourceArn"]

    def test_the_accounts_log_role_is_made_unless_there_is_one(
        self, template: Template, guarded: Template
    ) -> None:
        assert len(template.of("AWS::ApiGateway::Account")) == 1
        assert {} == guarded.of("AWS::ApiGateway::Account")


class TestRefusals:
    #: Status, type and code; None: API Gateway's own status, which differs within the class.
    EXPECTED: ClassVar = {
        "DEFAULT_4XX": (None, "invalid_request_error", "invalid_request"),
        "DEFAULT_5XX": (None, "server_error", "internal_error"),
        "UNAUTHORIZED": ("401", "authentication_error", "invalid_api_key"),
        "ACCESS_DENIED": ("403", "permission_error", "permission_denied"),
        "MISSING_AUTHENTICATION_TOKEN": ("404", "invalid_request_error", "not_found"),
        "RESOURCE_NOT_FOUND": ("404", "invalid_request_error", "not_found"),
        "THROTTLED": ("429", "rate_limit_error", "rate_limit_exceeded"),
        "QUOTA_EXCEEDED": ("429", "rate_limit_error", "insufficient_quota"),
        "REQUEST_TOO_LARGE": ("413", "invalid_request_error", "request_too_large"),
        "BAD_REQUEST_BODY": ("400", "invalid_request_error", "invalid_request"),
        "INTEGRATION_TIMEOUT": ("504", "server_error", "deadline_exceeded"),
        "INTEGRATION_FAILURE": ("503", "server_error", "service_unavailable"),
        "WAF_FILTERED": ("403", "permission_error", "permission_denied"),
    }

    def test_each_has_openais_body(self, template: Template) -> None:
        refusals = template.named("AWS::ApiGateway::GatewayResponse", "ResponseType")

        errors = {}
        for name, refusal in refusals.items():
            error = json.loads(refusal["ResponseTemplates"]["application/json"])["error"]
            assert set(error) == {"message", "type", "param", "code"}
            errors[name] = (refusal.get("StatusCode"), error["type"], error["code"])
        assert self.EXPECTED == errors

    def test_each_tells_its_id_to_every_sdk_and_a_refused_key_that_it_stays_so(
        self, template: Template
    ) -> None:
        refusals = template.named("AWS::ApiGateway::GatewayResponse", "ResponseType")

        for refusal in refusals.values():
            headers = refusal["ResponseParameters"]
            for name in ("x-request-id", "request-id"):
                assert "context.requestId" == headers[f"gatewayresponse.header.{name}"]
            body = json.loads(refusal["ResponseTemplates"]["application/json"])
            assert "error" == body["type"]
        for name in ("UNAUTHORIZED", "ACCESS_DENIED", "WAF_FILTERED"):
            headers = refusals[name]["ResponseParameters"]
            assert headers["gatewayresponse.header.x-should-retry"] == "'false'"

    def test_no_wait_is_longer_than_sdks_take(self, template: Template) -> None:
        for refusal in template.of("AWS::ApiGateway::GatewayResponse").values():
            seconds = refusal["ResponseParameters"].get("gatewayresponse.header.retry-after", "'1'")
            assert 1 <= int(seconds.strip("'")) <= 60

    def test_what_failed_on_our_side_is_not_tried_again(self, template: Template) -> None:
        refusals = template.named("AWS::ApiGateway::GatewayResponse", "ResponseType")

        for name in ("DEFAULT_5XX", "INTEGRATION_TIMEOUT", "INTEGRATION_FAILURE"):
            headers = refusals[name]["ResponseParameters"]
            assert headers["gatewayresponse.header.x-should-retry"] == "'false'"

    def test_no_body_holds_what_api_gateway_would_take_for_a_variable(
        self, template: Template
    ) -> None:
        for refusal in template.of("AWS::ApiGateway::GatewayResponse").values():
            body = refusal["ResponseTemplates"]["application/json"]
            assert "$" not in body
            assert "#" not in body


class TestPage:
    #: Of AWS, with the same ids in every account.
    CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
    CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    ALL_VIEWER_EXCEPT_HOST_HEADER = "b689b0a8-53d0-40ab-baf2-68738e2966ac"

    def origin(self, config: dict[str, Any], behavior: dict[str, Any]) -> dict[str, Any]:
        """Return where a behaviour's requests go."""
        by_id = {origin["Id"]: origin for origin in config["Origins"]}
        target: dict[str, Any] = by_id[behavior["TargetOriginId"]]
        return target

    def test_it_has_exactly_the_headers_that_a_gateway_sends_with_it(
        self, template: Template
    ) -> None:
        policy = template.one("AWS::CloudFront::ResponseHeadersPolicy")
        config = policy["ResponseHeadersPolicyConfig"]
        security, custom = config["SecurityHeadersConfig"], config["CustomHeadersConfig"]["Items"]

        headers = {one["Header"]: one["Value"] for one in custom}
        headers["content-security-policy"] = security["ContentSecurityPolicy"][
            "ContentSecurityPolicy"
        ]
        headers["referrer-policy"] = security["ReferrerPolicy"]["ReferrerPolicy"]
        headers["x-content-type-options"] = "nosniff"  # The only value there is.
        assert page.HEADERS == headers
        assert {"ContentSecurityPolicy", "ContentTypeOptions", "ReferrerPolicy"} == set(security)
        assert all(one["Override"] for one in (*security.values(), *custom))

    def test_its_files_are_read_by_this_distribution_and_nobody_else(
        self, template: Template
    ) -> None:
        files, statements = bucket(template, "page")
        [distribution] = template.of("AWS::CloudFront::Distribution")

        [allowed] = [one for one in statements if one["Effect"] == "Allow"]

        assert all(files["PublicAccessBlockConfiguration"].values())
        assert allowed["Action"] == "s3:GetObject"
        assert allowed["Principal"] == {"Service": "cloudfront.amazonaws.com"}
        arn = f"arn:aws:cloudfront::{ACCOUNT}:distribution/{distribution}"
        assert allowed["Condition"] == {"StringEquals": {"AWS:SourceArn": arn}}

    def test_what_is_not_the_api_is_the_page(self, template: Template) -> None:
        config = template.one("AWS::CloudFront::Distribution")["DistributionConfig"]
        default = config["DefaultCacheBehavior"]

        assert default["ViewerProtocolPolicy"] == "redirect-to-https"
        assert default["CachePolicyId"] == self.CACHING_OPTIMIZED
        assert "OriginAccessControlId" in self.origin(config, default)
        [control] = template.of("AWS::CloudFront::OriginAccessControl").values()
        assert control["OriginAccessControlConfig"]["SigningBehavior"] == "always"

    def test_the_api_is_asked_each_time_with_all_that_the_client_said(
        self, template: Template
    ) -> None:
        config = template.one("AWS::CloudFront::Distribution")["DistributionConfig"]
        [api] = config["CacheBehaviors"]
        [rest] = template.of("AWS::ApiGateway::RestApi")
        origin = self.origin(config, api)

        assert api["PathPattern"] == "/api/*"
        assert {"GET", "HEAD", "OPTIONS", "POST", "DELETE"} <= set(api["AllowedMethods"])
        assert api["CachePolicyId"] == self.CACHING_DISABLED
        assert api["OriginRequestPolicyId"] == self.ALL_VIEWER_EXCEPT_HOST_HEADER
        assert api["ViewerProtocolPolicy"] == origin["CustomOriginConfig"]["OriginProtocolPolicy"]
        assert api["ViewerProtocolPolicy"] == "https-only"
        assert origin["DomainName"] == f"{rest}.execute-api.{REGION}.amazonaws.com"
        assert "OriginPath" not in origin  # The stage is the path.

    def test_a_silent_stream_is_not_cut_off(self, template: Template) -> None:
        config = template.one("AWS::CloudFront::Distribution")["DistributionConfig"]
        [api] = config["CacheBehaviors"]

        silent = self.origin(config, api)["CustomOriginConfig"]["OriginReadTimeout"]

        settings = Settings()
        assert silent > 2 * max(settings.first_byte_wait_seconds, settings.ping_seconds)

    def test_every_file_is_published_and_told_where_the_api_is(self, template: Template) -> None:
        publication = template.one("Custom::Page")
        [rest] = template.of("AWS::ApiGateway::RestApi")

        assert sorted(path.name for path in page.folder().iterdir()) == publication["Files"]
        assert publication["Api"] == "../api/v1/"
        assert publication["Clients"].startswith(
            f"https://{rest}.execute-api.{REGION}.amazonaws.com/"
        )
        assert publication["Clients"].endswith("/v1")

    def test_an_account_without_cloudfront_can_do_without_it(self, buffered: Template) -> None:
        kinds = {resource["Type"] for resource in buffered.raw["Resources"].values()}

        assert not [kind for kind in kinds if "CloudFront" in kind or kind == "Custom::Page"]
        assert FUNCTIONS - {"publisher"} == set(functions(buffered))
        assert "PageUrl" not in buffered.raw["Outputs"]


class TestFunctions:
    def test_there_is_one_for_each_part(self, template: Template) -> None:
        assert set(functions(template)) == FUNCTIONS

    def test_each_has_its_bounds(self, template: Template) -> None:
        for function in functions(template).values():
            assert function["MemorySize"] in (256, 512, 1024)
            assert 10 <= function["Timeout"] <= 900
            assert function["ReservedConcurrentExecutions"] > 0
            assert function["Architectures"] == ["arm64"]

    def test_traces_are_made_where_they_are_asked_for(
        self, template: Template, guarded: Template
    ) -> None:
        for wanted, one in ((False, template), (True, guarded)):
            assert wanted == one.one("AWS::ApiGateway::Stage")["TracingEnabled"]
            for name, function in functions(one).items():
                variables = function["Environment"]["Variables"]
                assert wanted == ("TracingConfig" in function), name
                assert wanted == ("POWERTOOLS_TRACE_DISABLED" not in variables), name

    def test_their_reservations_are_what_the_option_says(self, template: Template) -> None:
        reserved = [f["ReservedConcurrentExecutions"] for f in functions(template).values()]

        [line] = [line for line in documented() if line.startswith("reserved_concurrency")]
        assert f"Takes {sum(reserved)} of" in line
        assert f"below {sum(reserved) + 100}." in line  # AWS wants a hundred left.

    def test_inference_ends_with_what_api_gateway_waits_for(
        self, template: Template, buffered: Template
    ) -> None:
        seconds = [functions(one)["inference"]["Timeout"] for one in (template, buffered)]

        assert [900, 30] == seconds

    def test_small_accounts_reserve_nothing(self, buffered: Template) -> None:
        for function in functions(buffered).values():
            assert "ReservedConcurrentExecutions" not in function

    def test_each_has_a_role_of_its_own(self, template: Template) -> None:
        roles = [function["Role"] for function in functions(template).values()]

        assert len(roles) == len(set(roles))

    def test_each_has_an_encrypted_log_that_ends(self, template: Template) -> None:
        logs = template.named("AWS::Logs::LogGroup", "LogGroupName")

        for name, function in functions(template).items():
            log = logs[function["LoggingConfig"]["LogGroup"]]
            assert log["LogGroupName"] == f"/aws/lambda/inferline-{name}"
            assert log["RetentionInDays"] == 30
            assert "KmsKeyId" in log

    def test_all_run_the_same_code(self, template: Template) -> None:
        keys = {function["Code"]["S3Key"] for function in functions(template).values()}

        assert len(keys) == 1

    def test_the_code_is_known_by_what_it_is_made_of(
        self, template: Template, guarded: Template, buffered: Template
    ) -> None:
        [same, also, other] = [
            functions(one)["sweep"]["Code"]["S3Key"] for one in (template, guarded, buffered)
        ]

        assert same == also
        assert same != other  # For another processor.

    def test_inference_streams_through_the_adapter(self, template: Template) -> None:
        inference = functions(template)["inference"]

        assert inference["Handler"] == "functions/run.sh"
        [layer] = inference["Layers"]
        assert layer.endswith(":753240598075:layer:LambdaAdapterLayerArm64:30")
        variables = inference["Environment"]["Variables"]
        assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
        assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"

    def test_the_sweep_has_room_for_the_largest_batch_and_begins_each_minute(
        self, template: Template
    ) -> None:
        sweep = functions(template)["sweep"]

        assert "EphemeralStorage" not in sweep  # 512 MB, as Lambda has it.
        assert Settings().batch_bytes_max < 400 * 2**20
        assert sweep["Timeout"] / 60 < sweep["ReservedConcurrentExecutions"]

    def test_handlers_are_paths_of_files(self, template: Template) -> None:
        for name, function in functions(template).items():
            if name != "inference":
                module = name.replace("-", "_")
                assert function["Handler"] == f"functions.{module}.handler"

    def test_dead_letters_come_in_batches_that_may_fail_in_part(self, template: Template) -> None:
        source = template.one("AWS::Lambda::EventSourceMapping")

        assert source["EventSourceArn"].endswith(":inferline-dead-letters")
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]

    def test_the_sweep_runs_each_minute_and_is_not_repeated(self, template: Template) -> None:
        rule = template.one("AWS::Events::Rule")

        assert rule["ScheduleExpression"] == "rate(1 minute)"
        assert template.one("AWS::Lambda::EventInvokeConfig")["MaximumRetryAttempts"] == 0


class TestEnvironment:
    OTHERS = ("POWERTOOLS_", "AWS_LWA_", "AWS_LAMBDA_EXEC_WRAPPER")

    def test_every_variable_is_a_setting_or_somebody_elses(self, template: Template) -> None:
        known = {option.variable for option in options_of(Settings)}

        for function in functions(template).values():
            ours = {
                v for v in function["Environment"]["Variables"] if not v.startswith(self.OTHERS)
            }
            assert ours <= known

    def test_the_settings_are_read_from_it_as_meant(self, template: Template) -> None:
        variables = functions(template)["control"]["Environment"]["Variables"]

        settings = Settings.from_env(variables)

        assert settings.stack == "inferline"
        assert settings.access == "keys"
        assert settings.models == ",".join(MODELS)
        assert settings.tasks_table == "inferline-tasks"
        assert settings.bodies_bucket == "inferline-bodies-123456789012-eu-central-1"
        assert settings.files_bucket == "inferline-files-123456789012-eu-central-1"
        assert settings.provider_role == "arn:aws:iam::123456789012:role/inferline-provider"
        assert settings.kms_key.startswith("arn:aws:kms:eu-central-1:123456789012:key/")
        assert settings.silent_seconds > 3 * settings.enrol_seconds

    def test_there_is_no_secret_in_it(self, template: Template) -> None:
        secret = {option.variable for option in options_of(Settings) if option.secret}

        for function in functions(template).values():
            assert secret.isdisjoint(function["Environment"]["Variables"])


class TestOperations:
    def test_an_alarm_tells_of_each_trouble(self, template: Template) -> None:
        alarms = template.named("AWS::CloudWatch::Alarm", "AlarmName")

        assert set(alarms) == {
            f"inferline-{name}"
            for name in ("dead-letters", "old-task", "no-provider", "failures", "authorizer")
        }
        for alarm in alarms.values():
            assert alarm["TreatMissingData"] == "notBreaching"
            assert "AlarmActions" not in alarm

    def test_alarms_are_sent_to_who_asked_for_them(self, guarded: Template) -> None:
        [topic] = guarded.of("AWS::SNS::Topic")

        assert guarded.one("AWS::SNS::Subscription")["Endpoint"] == "ops@example.com"
        for alarm in guarded.of("AWS::CloudWatch::Alarm").values():
            assert alarm["AlarmActions"] == [topic]

    def test_cloudwatch_may_publish_to_an_encrypted_topic(self, guarded: Template) -> None:
        statements = [
            *guarded.one("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"],
            *guarded.one("AWS::KMS::Key")["KeyPolicy"]["Statement"],
        ]

        allowed = {
            action
            for statement in statements
            if statement.get("Principal") == {"Service": "cloudwatch.amazonaws.com"}
            for action in (
                [statement["Action"]]
                if isinstance(statement["Action"], str)
                else statement["Action"]
            )
        }
        assert allowed == {"sns:Publish", "kms:Decrypt", "kms:GenerateDataKey"}

    def test_the_dashboard_shows_belt_answers_and_costs(self, template: Template) -> None:
        dashboard = template.one("AWS::CloudWatch::Dashboard")

        widgets = json.loads(dashboard["DashboardBody"])["widgets"]
        titles = {widget["properties"].get("title") for widget in widgets}
        assert {
            *("Waiting, by model and tier", "Oldest message, s", "Slots and tasks"),
            *("First token, ms", "Whole answer, ms", "Errors, by code"),
            *("Functions at once", "Requests", "Units of the tables"),
        } <= titles


def test_a_policy_is_within_iams_limit_whatever_the_stack_and_its_region_are_called(
    template: Template,
) -> None:
    longer = {"inferline": "i" * 13, REGION: "ap-southeast-2"}
    for name, policy in template.named("AWS::IAM::ManagedPolicy", "ManagedPolicyName").items():
        text = json.dumps(policy["PolicyDocument"], separators=(",", ":"))
        for short, long in longer.items():
            text = text.replace(short, long)
        assert len(text) < 6144 - len(str(uuid4())), name  # The key's own id.


def test_the_template_is_within_cloudformations_limits(template: Template) -> None:
    assert len(template.raw["Resources"]) < 500
    assert len(json.dumps(template.raw)) < 1_000_000
