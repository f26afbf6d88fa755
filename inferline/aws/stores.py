"""Puts the AWS parts together: for a gateway from its settings, for a provider from its grant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, NoCredentialsError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import (
    ChainCredentials,
    CredentialSource,
    Lent,
    LentCredentials,
    StaticCredentials,
)
from inferline.aws.api.errors import translated
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.rate_counters import DynamoMeters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.lending import FixedLender, RoleLender
from inferline.aws.provision import provision
from inferline.aws.s3 import S3Bodies
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.errors import Unavailable
from inferline.fleet.enrolment import Credentials, Grant, Lender
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class ProviderStores:
    """What a provider works on. ``client`` counts its calls."""

    client: AwsClient
    store: DynamoTaskStore
    queue: SqsQueue
    bodies: S3Bodies


@dataclass(frozen=True, slots=True)
class OperatorStores:
    """What an operator's commands work on."""

    keys: DynamoKeys
    tenants: DynamoTenants
    registry: DynamoRegistry
    usage: DynamoUsage


@dataclass(frozen=True, slots=True)
class GatewayStores(ProviderStores):
    """What a gateway works on besides."""

    registry: DynamoRegistry
    queue_maker: SqsQueueMaker
    minutes: DynamoMinutes
    keys: DynamoKeys
    usage: DynamoUsage
    tenants: DynamoTenants
    meters: DynamoMeters
    #: Whether this is no stack, with functions of its own, but tables that the gateway has made.
    emulated: bool
    #: Of credentials to providers that enrol; None: they use their host's own.
    lender: Lender | None


@asynccontextmanager
async def open_provider_stores(
    grant: Grant, lent: Lent, proxies: Proxies = NO_PROXIES
) -> AsyncIterator[ProviderStores]:
    """
    The stores that ``grant`` names, signed with what is ``lent``, or else with the host's own.

    It is asked before each call, so that renewed credentials are used as soon as it has them.
    """
    source = LentCredentials(lent)
    where = grant.region, grant.endpoint_url or None
    async with AwsClient(*where, source, proxies=proxies) as client:
        yield ProviderStores(
            client=client,
            store=DynamoTaskStore(client, grant.tasks_table, packs=grant.terms.packs),
            queue=SqsQueue(client),
            bodies=S3Bodies(client, grant.bodies_bucket),
        )


@asynccontextmanager
async def open_gateway_stores(
    settings: Settings, *, deployed: bool = False
) -> AsyncIterator[GatewayStores]:
    """
    The stores that ``settings`` name, with the process's own credentials.

    On an emulator tables are made where missing, and providers get these same credentials unless
    there is a role for them. On AWS neither ever happens: a gateway's rights are not a provider's.
    Nor does it for a stack that was ``deployed``, be it to an emulator.
    """
    emulated = _emulated(settings.endpoint_url) and not deployed
    source = await _credentials(emulated=emulated)
    async with _client(settings, source) as client:
        if emulated:
            with translated(f"There is no AWS at {settings.endpoint_url}: is the emulator up?"):
                await provision(client, settings)
        yield GatewayStores(
            client=client,
            store=DynamoTaskStore(client, settings.tasks_table),
            queue=SqsQueue(client),
            bodies=S3Bodies(client, settings.bodies_bucket),
            registry=DynamoRegistry(client, settings.registry_table, settings.silent_seconds),
            minutes=DynamoMinutes(client, settings.registry_table),
            queue_maker=SqsQueueMaker(client, settings),
            keys=DynamoKeys(client, settings.registry_table),
            usage=_usage(client, settings),
            tenants=DynamoTenants(client, settings.registry_table),
            meters=DynamoMeters(client, settings.registry_table),
            emulated=emulated,
            lender=await _lender(client, settings, source, emulated=emulated),
        )


async def _lender(
    client: AwsClient, settings: Settings, source: CredentialSource, *, emulated: bool
) -> Lender | None:
    if settings.provider_role:
        return RoleLender(client, settings)
    if not emulated:
        return None
    access_key, secret_key, token = await source.frozen()
    return FixedLender(Credentials(access_key=access_key, secret_key=secret_key, token=token))


@asynccontextmanager
async def open_operator_stores(settings: Settings) -> AsyncIterator[OperatorStores]:
    """Those of a stack that is there, with the process's own credentials; makes none."""
    source = await _credentials(emulated=_emulated(settings.endpoint_url))
    async with _client(settings, source) as client:
        table = settings.registry_table
        try:
            yield OperatorStores(
                DynamoKeys(client, table),
                DynamoTenants(client, table),
                DynamoRegistry(client, table, settings.silent_seconds),
                _usage(client, settings),
            )
        except Unavailable as error:
            cause = error.__cause__
            why = f"AWS says: {cause}" if isinstance(cause, ClientError) else "AWS did not answer"
            where = settings.endpoint_url or settings.region
            raise Unavailable(
                f"The table {settings.registry_table!r} in {where} can't be used. Is the stack "
                f"deployed there (--stack, AWS_REGION), and may you use it? {why}"
            ) from error


def _client(settings: Settings, source: CredentialSource) -> AwsClient:
    where = settings.region, settings.endpoint_url or None
    return AwsClient(*where, source, proxies=settings.proxies)


def _usage(client: AwsClient, settings: Settings) -> DynamoUsage:
    tables = settings.tasks_table, settings.registry_table
    return DynamoUsage(client, *tables, settings.usage_days_kept)


async def _credentials(*, emulated: bool) -> CredentialSource:
    """The process's own credentials. An emulator takes any, so there none need be set."""
    source = ChainCredentials()
    try:
        await source.frozen()
    except NoCredentialsError:
        if not emulated:
            raise SettingsError(
                "No AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_ENDPOINT_URL for an emulator"
            ) from None
        return StaticCredentials("test", "test")
    return source


def _emulated(endpoint_url: str) -> bool:
    """Whether AWS is an emulator here. A private endpoint of AWS itself is not one."""
    host = urlsplit(endpoint_url).hostname or ""
    return bool(host) and not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
