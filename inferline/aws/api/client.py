"""
A client of SQS, DynamoDB, S3 and STS that takes a half to a quarter of other clients' CPU.

It knows the few protocols of the hot path, and nothing of each operation: requests and responses
are the JSON that AWS documents. Credentials, and the rules for retries, are botocore's.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Self, cast
from urllib.parse import quote, urlencode

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from pydantic_core import from_json, to_json

from inferline.aws.api.clock import ServerClock
from inferline.aws.api.credentials import ChainCredentials, CredentialSource, Keys
from inferline.aws.api.endpoints import Endpoints
from inferline.aws.api.responses import AwsResponse, client_error, transport_error, xml_texts
from inferline.aws.api.retry import Retries
from inferline.aws.api.signing import presigned, signed
from inferline.clock import Clock, SystemClock
from inferline.http.connections import Connections
from inferline.http.errors import HttpError
from inferline.http.proxies import NO_PROXIES, Proxies

Service = Literal["sqs", "dynamodb"]
#: Services that take forms and answer XML.
QueryService = Literal["sts"]

_TARGETS: Final = {"sqs": "AmazonSQS", "dynamodb": "DynamoDB_20120810"}
_QUERY_VERSIONS: Final = {"sts": "2011-06-15"}
_OBJECT_OPERATIONS: Final = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}
#: By the first name in the query.
_MULTIPART_OPERATIONS: Final = {
    "uploads": "CreateMultipartUpload",
    "partNumber": "UploadPart",
    "uploadId": "CompleteMultipartUpload",
}
_SERVICES: Final = (*_TARGETS, *_QUERY_VERSIONS, "s3")
#: A repeated receive takes more messages, and hides those of the lost response.
_NEVER_RETRIED: Final = frozenset({"ReceiveMessage"})
#: The longest that SQS holds a receive, seconds.
_WAIT_SECONDS_MAX: Final = 20
#: AWS's codes for a signature with a wrong time, which some of them share with other faults.
_SKEW_CODES: Final = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
#: AWS's codes for credentials that have expired.
_EXPIRED_CODES: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
#: AWS allows five minutes: a smaller move of the clock was not the reason for a refusal.
_SKEW_MS: Final = 60_000
#: Idle connections are closed before AWS, or a proxy between, closes them.
_IDLE_SECONDS: Final = 30.0
#: Headers of every call that are not signed.
_UNSIGNED: Final = {"User-Agent": "inferline", "Accept-Encoding": "identity"}


class _Call(NamedTuple):
    service: str
    operation: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    read_seconds: float
    retry: bool


class AwsClient:
    """
    One region's SQS, DynamoDB, S3 and STS, for one event loop. Use it as an async context manager.

    ``credentials`` defaults to botocore's chain and may be any `CredentialSource`. ``read_seconds``
    is the longest pause in an answer; a long poll adds its own waiting time.

    Calls raise botocore's exceptions: ClientError for what AWS refused, and subclasses of
    BotoCoreError for an answer that did not come (ConnectTimeoutError, EndpointConnectionError,
    ConnectionClosedError, ReadTimeoutError), when retries were of no use.
    """

    def __init__(
        self,
        region: str,
        endpoint_url: str | None = None,
        credentials: CredentialSource | None = None,
        *,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        max_attempts: int = 3,
        connect_seconds: float = 3.0,
        read_seconds: float = 10.0,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        #: Attempts made, retries included, by service and operation: what AWS bills.
        self.calls: Counter[tuple[str, str]] = Counter()
        self._region = region
        self._endpoints = Endpoints(region, endpoint_url)
        self._credentials = credentials or ChainCredentials()
        self._clock = clock or SystemClock()
        self._server_clock = ServerClock(self._clock.monotonic, wall)
        self._retries = {name: Retries(max_attempts, jitter) for name in _SERVICES}
        self._read_seconds = read_seconds
        self._connections = Connections(
            connect_seconds=connect_seconds, idle_seconds=_IDLE_SECONDS, proxies=proxies, to="AWS"
        )

    async def __aenter__(self) -> Self:
        # Connections have no limit, because each long poll occupies one.
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connections.__aexit__(*exc_info)

    def now_ms(self) -> int:
        """Return AWS's time, milliseconds since 1970; before the first answer, the machine's."""
        return self._server_clock.now_ms()

    async def call(
        self,
        service: Service,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # the budget of all attempts and pauses
        retry: bool = True,
    ) -> dict[str, Any]:
        """
        Call an operation and return its answer.

        ``timeout`` bounds the call in seconds, retries included. ReceiveMessage is never retried.
        """
        call = _Call(
            service=service,
            operation=operation,
            method="POST",
            url=self._endpoints.service(service),
            headers={
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"{_TARGETS[service]}.{operation}",
            },
            body=_json(parameters),
            read_seconds=self._read_seconds + _wait_seconds(operation, parameters),
            retry=retry and operation not in _NEVER_RETRIED,
        )
        body = (await self._within(call, timeout)).body
        try:
            return cast("dict[str, Any]", from_json(body)) if body else {}
        except ValueError as error:
            raise HTTPClientError(error=f"{service} answered {operation} without JSON") from error

    async def query(
        self,
        service: QueryService,
        operation: str,
        parameters: Mapping[str, str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as in call()
    ) -> Mapping[str, str]:
        """Call an operation of the older protocol. Return the texts in its answer by name."""
        form = {"Action": operation, "Version": _QUERY_VERSIONS[service], **parameters}
        call = _Call(
            service=service,
            operation=operation,
            method="POST",
            url=self._endpoints.service(service),
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            body=urlencode(form).encode(),
            read_seconds=self._read_seconds,
            retry=True,
        )
        body = (await self._within(call, timeout)).body
        texts = xml_texts(body)
        if not texts:
            raise HTTPClientError(error=f"{service} answered {operation} without XML")
        return texts

    async def s3(
        self,
        method: Literal["GET", "HEAD", "PUT", "DELETE"],
        bucket: str,
        key: str,
        body: bytes = b"",
        *,
        encryption: Literal["AES256", "aws:kms"] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as in call()
    ) -> bytes:
        """
        Put, get or delete an object. ``encryption`` None leaves it to the bucket's default.

        An object that is put keeps ``headers`` such as Content-Type.
        """
        sent = {"Content-Type": "application/octet-stream"} if method == "PUT" else {}
        sent |= headers or {}
        if encryption is not None:
            sent["x-amz-server-side-encryption"] = encryption
        url = self._endpoints.object(bucket, key)
        call = self._object_call(_OBJECT_OPERATIONS[method], method, url, body, sent)
        return (await self._within(call, timeout)).body

    async def s3_multipart(
        self,
        method: Literal["POST", "PUT"],
        bucket: str,
        key: str,
        query: Mapping[str, str],
        body: bytes = b"",
    ) -> AwsResponse:
        """Begin a multipart upload, upload a part or complete it, as ``query`` says."""
        operation = _MULTIPART_OPERATIONS[next(iter(query))]
        url = _with_query(self._endpoints.object(bucket, key), query)
        return await self._tried(self._object_call(operation, method, url, body, {}))

    def _object_call(
        self, operation: str, method: str, url: str, body: bytes, headers: dict[str, str]
    ) -> _Call:
        return _Call(
            service="s3",
            operation=operation,
            method=method,
            url=url,
            headers=headers,
            body=body,
            read_seconds=self._read_seconds,
            retry=True,
        )

    async def presigned_url(
        self, bucket: str, key: str, query: Mapping[str, str], seconds: int
    ) -> str:
        """Return an address at which anybody can get an object for some seconds."""
        url = _with_query(self._endpoints.object(bucket, key), query)
        keys = Keys(*await self._credentials.frozen())
        return presigned(url, self._region, keys, self.now_ms(), seconds)

    async def _within(self, call: _Call, seconds: float | None) -> AwsResponse:
        if seconds is None:
            return await self._tried(call)
        try:
            async with asyncio.timeout(seconds):
                return await self._tried(call)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=call.url, error=error) from error

    async def _tried(self, call: _Call) -> AwsResponse:
        """Try until there is a good answer, or an error that another attempt would not cure."""
        retries, spent, attempt, redated = self._retries[call.service], dict[str, Any](), 1, False
        while True:
            signed_ms = self.now_ms()
            try:
                answer = await self._attempt(call, signed_ms, attempt)
            except (ClientError, ConnectionError, HTTPClientError) as error:
                if not redated and self._was_misdated(error, signed_ms):
                    redated = True
                    continue
                delay = retries.delay(error, attempt, spent) if call.retry else None
                if delay is None:
                    raise
                await self._clock.sleep(delay)
                attempt += 1
            else:
                retries.succeeded(spent)
                return answer

    def _was_misdated(self, error: ClientError | BotoCoreError, signed_ms: int) -> bool:
        """Return whether AWS refused the signature's time, and has thereby set our clock."""
        return (
            isinstance(error, ClientError)
            and error.response["Error"]["Code"] in _SKEW_CODES
            and abs(self.now_ms() - signed_ms) > _SKEW_MS
        )

    async def _attempt(self, call: _Call, now_ms: int, attempt: int) -> AwsResponse:
        keys = Keys(*await self._credentials.frozen())
        headers = {**_UNSIGNED, **signed(call, self._region, keys, now_ms)}
        self.calls[call.service, call.operation] += 1
        sent = self._clock.monotonic()
        try:
            response = await self._connections.send(
                call.method, call.url, headers, call.body, silence_seconds=call.read_seconds
            )
            received = self._clock.monotonic()
            body = await response.read()
        except HttpError as error:
            raise transport_error(error, call.url) from error
        # Every answer has the time, even a refusal.
        self._server_clock.observe(response.headers.get("date", ""), sent, received)
        answer = AwsResponse(response.status, response.headers, body)
        if response.status < 300:
            return answer
        refusal = client_error(answer, call.operation, retries=attempt - 1)
        if refusal.response["Error"]["Code"] in _EXPIRED_CODES:
            self._credentials.expired()
        raise refusal


def _json(parameters: Mapping[str, Any]) -> bytes:
    try:
        return to_json(parameters)
    except ValueError:  # Half of a surrogate pair, which needs an escape.
        return json.dumps(parameters, separators=(",", ":")).encode()


def _with_query(url: str, query: Mapping[str, str]) -> str:
    """Add a query as signatures want it: spaces are `%20`."""
    return f"{url}?{urlencode(query, quote_via=quote, safe='-_.~')}" if query else url


def _wait_seconds(operation: str, parameters: Mapping[str, Any]) -> float:
    """Return how long AWS may hold the call: a receive waits as requested, or as its queue says."""
    if operation != "ReceiveMessage":
        return 0.0
    return float(parameters.get("WaitTimeSeconds", _WAIT_SECONDS_MAX))
