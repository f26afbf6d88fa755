"""Opens the stores on AWS, from settings or, for a provider, from its grant."""

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
from inferline.aws.dynamodb.rate_counters import DynamoRateCounters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.files.batches import DynamoBatches
from inferline.aws.files.files import DynamoFiles
from inferline.aws.files.uploads import DynamoUploads
from inferline.aws.lending import FixedLender, RoleLender
from inferline.aws.provision import provision
from inferline.aws.s3 import S3Objects
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.errors import Unavailable
from inferline.fleet.enrolment import Credentials, Grant, Lender
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.settings import Settings, SettingsError
from inferline.stores import StackStores


@dataclass(frozen=True, slots=True)
class ProviderStores:
    """The stores that a provider works on. ``client`` counts its calls."""

    client: AwsClient
    store: DynamoTaskStore
    queue: SqsQueue
    bodies: S3Objects
    #: The bytes of batches' shards.
    objects: S3Objects


@asynccontextmanager
async def open_provider_stores(
    grant: Grant, lent: Lent, proxies: Proxies = NO_PROXIES
) -> AsyncIterator[ProviderStores]:
    """
    Open the stores that ``grant`` names, with the credentials ``lent``, or else the host's own.

    ``lent`` is read before each call, so that renewed credentials are used at once.
    """
    source = LentCredentials(lent)
    endpoint_url = grant.endpoint_url or None
    async with AwsClient(grant.region, endpoint_url, source, proxies=proxies) as client:
        yield ProviderStores(
            client=client,
            store=DynamoTaskStore(client, grant.tasks_table, packs=grant.terms.packs),
            queue=SqsQueue(client),
            bodies=S3Objects(client, grant.bodies_bucket),
            objects=S3Objects(client, grant.files_bucket),
        )


@asynccontextmanager
async def open_gateway_stores(
    settings: Settings, *, deployed: bool = False
) -> AsyncIterator[StackStores]:
    """
    Open a gateway's stores, with the process's own credentials.

    On an emulator tables are made where missing, and providers get these same credentials unless
    there is a role for them. On AWS neither ever happens: a gateway's rights are not a provider's.
    Nor does it for a stack that was ``deployed``, be it to an emulator.
    """
    emulated = _emulated(settings.endpoint_url) and not deployed
    source = await _credentials(emulated=emulated)
    async with _client(settings, source) as client:
        if emulated:
            await _provision(client, settings)
        lender = await _lender(client, settings, source, emulated=emulated)
        yield _stores(client, settings, emulated=emulated, lender=lender)


@asynccontextmanager
async def open_operator_stores(settings: Settings) -> AsyncIterator[StackStores]:
    """
    Open the stores of a stack that exists, with the process's own credentials.

    Unavailable is raised again with the cause that AWS gives: it is for the operator, not a client.
    """
    source = await _credentials(emulated=_emulated(settings.endpoint_url))
    async with _client(settings, source) as client:
        try:
            yield _stores(client, settings)
        except Unavailable as error:
            cause = error.__cause__
            why = f"AWS says: {cause}" if isinstance(cause, ClientError) else "AWS did not answer"
            place = settings.endpoint_url or settings.region
            raise Unavailable(
                f"The table {settings.registry_table!r} in {place} can't be used. Is the stack "
                f"deployed there (--stack, AWS_REGION), and may you use it? {why}"
            ) from error


def _stores(
    client: AwsClient, settings: Settings, *, emulated: bool = False, lender: Lender | None = None
) -> StackStores:
    tasks, registry = settings.tasks_table, settings.registry_table
    return StackStores(
        client=client,
        store=DynamoTaskStore(client, tasks),
        queue=SqsQueue(client),
        bodies=S3Objects(client, settings.bodies_bucket),
        objects=S3Objects(client, settings.files_bucket),
        files=DynamoFiles(client, registry),
        uploads=DynamoUploads(client, registry),
        batches=DynamoBatches(client, registry),
        registry=DynamoRegistry(client, registry, settings.silent_seconds),
        queue_maker=SqsQueueMaker(client, settings),
        minutes=DynamoMinutes(client, registry),
        keys=DynamoKeys(client, registry),
        usage=DynamoUsage(client, tasks, registry, settings.usage_days_kept),
        tenants=DynamoTenants(client, registry),
        rate_counters=DynamoRateCounters(client, registry),
        emulated=emulated,
        lender=lender,
    )


async def _provision(client: AwsClient, settings: Settings) -> None:
    """Make the tables, the bucket and the dead-letter queue. Raises Unavailable with the reason."""
    try:
        await translated(provision(client, settings))
    except Unavailable as error:
        cause = error.__cause__
        if isinstance(cause, ClientError):
            reason = cause.response["Error"]
            raise Unavailable(
                f"{settings.endpoint_url} refused {cause.operation_name}, one of the calls that "
                f"make the stack's tables and queues: {reason['Code']}: {reason['Message']}"
            ) from cause
        raise Unavailable(
            f"There is no AWS at {settings.endpoint_url}: is the emulator up?"
        ) from cause


async def _lender(
    client: AwsClient, settings: Settings, source: CredentialSource, *, emulated: bool
) -> Lender | None:
    """Return the lender of providers' credentials: of a role, or of an emulator's own."""
    if settings.provider_role:
        return RoleLender(client, settings)
    if not emulated:
        return None
    access_key, secret_key, token = await source.frozen()
    return FixedLender(Credentials(access_key=access_key, secret_key=secret_key, token=token))


def _client(settings: Settings, source: CredentialSource) -> AwsClient:
    endpoint_url = settings.endpoint_url or None
    return AwsClient(settings.region, endpoint_url, source, proxies=settings.proxies)


async def _credentials(*, emulated: bool) -> CredentialSource:
    """Return the process's own credentials. An emulator takes any, so there none need be set."""
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
    """Return whether an endpoint is an emulator's. A private endpoint of AWS itself is not one."""
    host = urlsplit(endpoint_url).hostname or ""
    return bool(host) and not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
