"""The dashboard for browsers: CloudFront before its files, and under the same host the API."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from aws_cdk import Aws, CustomResource, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from inferline.gateway.routes import page
from infra.api import STAGE, Api
from infra.bundle import ROOT
from infra.functions import PUBLISHER, Functions
from infra.options import Options

#: What leads a browser to the page.
VIEWER: Final = ROOT / "infra" / "page.js"
#: How long CloudFront waits for a word of the API: as long as it does without a raised quota. A
#: stream says something each 15 s; an answer that comes as a whole has to be there by then.
SILENT_SECONDS: Final = 60
#: How long CloudFormation waits for the files to be in their place.
PUBLISH_SECONDS: Final = 120


class Page(Construct):
    """A private bucket with the page, a distribution, and what puts the one into the other."""

    def __init__(
        self, scope: Construct, name: str, options: Options, functions: Functions, api: Api
    ) -> None:
        super().__init__(scope, name)
        self._stack = options.stack
        self._bucket = self._files()
        distribution = self._distribution(api)
        self.url = f"https://{distribution.distribution_domain_name}{page.PATH}/"
        self._publish(functions.make(PUBLISHER), api)

    def _files(self) -> s3.Bucket:
        """Return a bucket that CloudFront may read for anybody; so no key of ours."""
        return s3.Bucket(
            self,
            "Files",
            bucket_name=f"{self._stack}-page-{Aws.ACCOUNT_ID}-{Stack.of(self).region}",
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _distribution(self, api: Api) -> cloudfront.Distribution:
        return cloudfront.Distribution(
            self,
            "Distribution",
            comment=f"{self._stack}: the page, and the API beside it",
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            default_behavior=self._to_files(),
            additional_behaviors={f"/{STAGE}/*": _to_api(api)},
        )

    def _to_files(self) -> cloudfront.BehaviorOptions:
        """
        Return the cache policy: a second, then a check by ETag, so nothing has to be invalidated.
        """
        name = f"{self._stack}-page"
        access = cloudfront.S3OriginAccessControl(self, "Access", origin_access_control_name=name)
        viewer = cloudfront.Function(
            self,
            "Viewer",
            function_name=name,
            comment="Leads to the page",
            code=cloudfront.FunctionCode.from_file(file_path=str(VIEWER)),
            runtime=cloudfront.FunctionRuntime.JS_2_0,
        )
        return cloudfront.BehaviorOptions(
            origin=origins.S3BucketOrigin.with_origin_access_control(
                self._bucket, origin_access_control=access
            ),
            viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
            cache_policy=cloudfront.CachePolicy.CACHING_OPTIMIZED,
            response_headers_policy=self._headers(name),
            function_associations=[
                cloudfront.FunctionAssociation(
                    function=viewer, event_type=cloudfront.FunctionEventType.VIEWER_REQUEST
                )
            ],
        )

    def _headers(self, name: str) -> cloudfront.ResponseHeadersPolicy:
        """Return the headers that bind the page wherever it is; CloudFront has a place for some."""
        own = dict(page.HEADERS)
        own.pop("x-content-type-options")  # It has one value.
        referrer = own.pop("referrer-policy").upper().replace("-", "_")
        security = cloudfront.ResponseSecurityHeadersBehavior(
            content_security_policy=cloudfront.ResponseHeadersContentSecurityPolicy(
                content_security_policy=own.pop("content-security-policy"), override=True
            ),
            content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
            referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                referrer_policy=cloudfront.HeadersReferrerPolicy[referrer], override=True
            ),
        )
        custom = [
            cloudfront.ResponseCustomHeader(header=header, value=value, override=True)
            for header, value in own.items()
        ]
        return cloudfront.ResponseHeadersPolicy(
            self,
            "Headers",
            response_headers_policy_name=name,
            comment="What the page may do",
            security_headers_behavior=security,
            custom_headers_behavior=cloudfront.ResponseCustomHeadersBehavior(custom_headers=custom),
        )

    def _publish(self, publisher: lambda_.Function, api: Api) -> None:
        """
        Have the files put into the bucket, again whenever one has changed.

        The CDK's own way asks for rights with stars in them and brings the AWS CLI along.
        """
        publisher.add_to_role_policy(
            iam.PolicyStatement(
                sid="Page",
                actions=["s3:PutObject", "s3:DeleteObject"],
                resources=[self._bucket.arn_for_objects(f"{page.PATH.strip('/')}/*")],
            )
        )
        files = _files(page.folder())
        CustomResource(
            self,
            "Published",
            resource_type="Custom::Page",
            service_token=publisher.function_arn,
            service_timeout=Duration.seconds(PUBLISH_SECONDS),
            properties={
                "Bucket": self._bucket.bucket_name,
                "Api": f"../{STAGE}/v1/",
                "Clients": f"{api.rest.url}v1",
                "Files": [path.name for path in files],
                "Version": _version([*files, ROOT / "functions" / "publisher.py"]),
            },
        )


def _to_api(api: Api) -> cloudfront.BehaviorOptions:
    """
    Return the API as it is: nothing is kept, and all is passed on but the host, which is its own.
    """
    host = f"{api.rest.rest_api_id}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}"
    return cloudfront.BehaviorOptions(
        origin=origins.HttpOrigin(
            host,
            protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
            origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2],
            read_timeout=Duration.seconds(SILENT_SECONDS),
        ),
        # A key that was sent in the clear must not seem to work.
        viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
        allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
        cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
        origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
        compress=False,
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _version(files: list[Path]) -> str:
    """Return the same for the same files, and what is done to them."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
