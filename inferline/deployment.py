"""The settings that say where a gateway is deployed and who may use it."""

from __future__ import annotations

from dataclasses import dataclass

from inferline.http.proxies import Proxies
from inferline.options import declare, declare_log_level
from inferline.parsing import parse_origins, parse_stack, split


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """A gateway's stack, its way to AWS, where it listens, and the access to it."""

    stack: str = declare(
        "inferline",
        "Prefix of the names of tables, queues and buckets, at most 13 characters.",
        parse=parse_stack,
    )
    tasks_table_override: str = declare(
        "",
        "DynamoDB table of tasks and chunks.",
        variable="INFERLINE_TASKS_TABLE",
        default_text="`<stack>-tasks`",
    )
    registry_table_override: str = declare(
        "",
        "DynamoDB table of models, providers and keys.",
        variable="INFERLINE_REGISTRY_TABLE",
        default_text="`<stack>-registry`",
    )
    bodies_bucket_override: str = declare(
        "",
        "S3 bucket of large request bodies.",
        variable="INFERLINE_BODIES_BUCKET",
        default_text="`<stack>-bodies`",
    )
    files_bucket_override: str = declare(
        "",
        "S3 bucket of files and of the lines and results of batches.",
        variable="INFERLINE_FILES_BUCKET",
        default_text="`<stack>-files`",
    )
    region: str = declare("us-east-1", "AWS region.", variable="AWS_REGION")
    endpoint_url: str = declare(
        "", "Address of an AWS emulator; empty for AWS itself.", variable="AWS_ENDPOINT_URL"
    )
    http_proxy: str = declare(
        "",
        "Proxy for http addresses, `http://name:password@host:port`. `ALL_PROXY` sets the proxy "
        "for both http and https. A name in small letters wins, as with curl.",
        variable="HTTP_PROXY",
        secret=True,
    )
    https_proxy: str = declare(
        "", "Proxy for https addresses, including AWS.", variable="HTTPS_PROXY", secret=True
    )
    no_proxy: str = declare(
        "",
        "Where no proxy is used, separated by commas: hosts and domains, with or without a port, "
        "addresses, networks such as `10.0.0.0/8`, or `*`. This machine never needs a proxy.",
        variable="NO_PROXY",
    )
    host: str = declare(
        "127.0.0.1",
        "Address to listen on; other machines cannot reach the default.",
        flag="--host",
        metavar="ADDRESS",
    )
    port: int = declare(8000, "Port to listen on.", flag="--port", between=(0, 65535))
    log_level: str = declare_log_level()

    access: str = declare(
        "open",
        "`keys` requires an API key; `open` admits everybody who can reach the gateway.",
        choices=("open", "keys"),
    )
    provider_token: str = declare(
        "",
        "Token that a provider needs to enrol when access is `open`; empty: it needs none. With "
        "`keys` each provider has a token of its own.",
        secret=True,
    )
    cors_origins: str = declare(
        "",
        "Origins whose web pages may call the gateway, such as `https://app.example`, separated by "
        "commas; `*` for any. Preflight requests need no key.",
        parse=lambda value: ",".join(parse_origins(value)),
    )
    models: str = declare("", "Models to list before a provider enrols them, separated by commas.")
    provider_role: str = declare("", "ARN of the IAM role whose credentials providers are lent.")
    credentials_seconds: int = declare(3600, "Lifetime of these credentials.", between=(900, 3600))
    kms_key: str = declare("", "ARN of the KMS key for queues that the gateway creates.")

    @property
    def tasks_table(self) -> str:
        """Return the table of tasks and chunks."""
        return self.tasks_table_override or f"{self.stack}-tasks"

    @property
    def registry_table(self) -> str:
        """Return the table of models, providers and keys."""
        return self.registry_table_override or f"{self.stack}-registry"

    @property
    def bodies_bucket(self) -> str:
        """Return the bucket of large request bodies."""
        return self.bodies_bucket_override or f"{self.stack}-bodies"

    @property
    def files_bucket(self) -> str:
        """Return the bucket of files and of the lines and results of batches."""
        return self.files_bucket_override or f"{self.stack}-files"

    @property
    def proxies(self) -> Proxies:
        """Return the proxies to what is not on this machine."""
        return Proxies(self.http_proxy, self.https_proxy, self.no_proxy)

    @property
    def listed_models(self) -> tuple[str, ...]:
        """Return the models that are listed before a provider enrols them."""
        return split(self.models)

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the origins whose web pages may call the gateway."""
        return split(self.cors_origins)
