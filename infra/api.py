"""The front door: a regional REST API that asks for a key, streams answers and logs no body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from inferline.gateway.edge import cors
from inferline.gateway.routes.endpoints import ENDPOINTS
from infra.functions import Functions
from infra.gateway_responses import gateway_responses
from infra.log_group import log_group
from infra.options import Options
from infra.storage import Storage

#: So that a base URL ends as it always has.
STAGE: Final = "api"
#: API Gateway's limits on an answer that is streamed, and on one that is not.
STREAM_SECONDS: Final = 900
BUFFERED_SECONDS: Final = 29
#: What API Gateway passes on as bytes, in base64: forms that come in, and sounds that go out where
#: answers are not streamed, to clients that accept them by name. JSON is
#: not listed: base64 would make it a third longer. Files go out at S3's own address.
BINARY: Final = (
    *("multipart/form-data", "application/octet-stream", "audio/mpeg", "audio/wav", "audio/ogg"),
    *("audio/flac", "audio/aac", "audio/pcm"),
)
#: One line for each request: who, what, how long; never a body, a key or a query.
ACCESS_LOG: Final = {
    "request": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "address": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "refusal": "$context.error.responseType",
    "key": "$context.authorizer.keyId",
    "tenant": "$context.authorizer.tenant",
    "answer_bytes": "$context.responseLength",
    "total_ms": "$context.responseLatency",
    "function_ms": "$context.integrationLatency",
}


class Api(Construct):
    """The API with all its routes."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        options: Options,
        functions: Functions,
        storage: Storage,
    ) -> None:
        super().__init__(scope, name)
        self._options = options
        self._functions = functions
        self.rest = self._rest(storage)
        # No cache of its results: API Gateway caches by headers that must all be present, and a key
        # is in one of three.
        self._authorizer = apigateway.RequestAuthorizer(
            self,
            "Authorizer",
            handler=functions.authorizer,
            identity_sources=[],
            results_cache_ttl=Duration.seconds(0),
        )
        declared = self._authorizer.node.default_child
        assert isinstance(declared, apigateway.CfnAuthorizer)
        # The construct writes an empty string; the property must be absent.
        declared.add_property_deletion_override("IdentitySource")
        gateway_responses(self.rest, options.cors_origins)
        self._route()

    def _rest(self, storage: Storage) -> apigateway.RestApi:
        options = self._options
        log = log_group(
            self, "Log", f"/aws/apigateway/{options.stack}", options.log_days, storage.key
        )
        return apigateway.RestApi(
            self,
            "Rest",
            rest_api_name=options.stack,
            description="InferLine: an LLM router with OpenAI's API",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            binary_media_types=list(BINARY),
            default_cors_preflight_options=_preflights(options.cors_origins),
            cloud_watch_role=options.api_log_role,
            cloud_watch_role_removal_policy=(
                RemovalPolicy.DESTROY if options.api_log_role else None
            ),
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                access_log_destination=apigateway.LogGroupLogDestination(log),
                access_log_format=apigateway.AccessLogFormat.custom(json.dumps(ACCESS_LOG)),
                logging_level=apigateway.MethodLoggingLevel.OFF,
                data_trace_enabled=False,
                metrics_enabled=False,  # Those of each method cost; those of the API are free.
                tracing_enabled=options.traces,
                throttling_rate_limit=options.requests_per_second,
                throttling_burst_limit=options.requests_burst,
            ),
        )

    def _route(self) -> None:
        """
        Route inference under each of its addresses to its function, everything else to control.
        """
        control = self._integration(self._functions.control, stream=False)
        inference = self._integration(
            self._functions.inference, stream=self._options.edge == "stream"
        )
        inference_routes = {
            PurePosixPath(p + e.path): e.method for p in ("", "/v1") for e in ENDPOINTS
        }
        for path, verb in inference_routes.items():
            self._method(self.rest.root.resource_for_path(str(path)), verb, inference)
        for prefix in ("/", "/v1"):
            tasks = self.rest.root.resource_for_path(str(PurePosixPath(prefix, "tasks")))
            self._method(tasks, "ANY", control)
            self._method(tasks.add_proxy(any_method=False), "ANY", inference)
        # A `{proxy+}` does not match below a sibling resource, so each parent needs its own.
        above = {parent for path in inference_routes for parent in path.parents}
        for path in sorted({*inference_routes, *above}):
            resource = self.rest.root.resource_for_path(str(path))
            self._method(resource, "ANY", control)
            if path in above:
                self._method(resource.add_proxy(any_method=False), "ANY", control)

    def _integration(
        self, function: lambda_.IFunction, *, stream: bool
    ) -> apigateway.LambdaIntegration:
        mode = apigateway.ResponseTransferMode
        return apigateway.LambdaIntegration(
            function,
            response_transfer_mode=mode.STREAM if stream else mode.BUFFERED,
            timeout=Duration.seconds(STREAM_SECONDS if stream else BUFFERED_SECONDS),
            scope_permission_to_method=False,
        )

    def _method(
        self, resource: apigateway.IResource, verb: str, to: apigateway.Integration
    ) -> None:
        resource.add_method(
            verb,
            to,
            authorizer=self._authorizer,
            authorization_type=apigateway.AuthorizationType.CUSTOM,
        )


def _preflights(origins: Sequence[str]) -> apigateway.CorsOptions | None:
    """
    Return what a browser is told before a page's request. A star stands for all headers but keys.
    """
    if not origins:
        return None
    return apigateway.CorsOptions(
        allow_origins=["*"] if "*" in origins else list(origins),
        allow_methods=list(cors.METHODS),
        allow_headers=["*", "authorization"],
        max_age=Duration.seconds(cors.MAX_AGE_SECONDS),
    )
