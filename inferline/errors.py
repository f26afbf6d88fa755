"""
All errors of InferLine, with the HTTP status and the OpenAI error fields that each one becomes.

    InferLineError                 500  server_error           internal_error
    ├── RequestError               the client can correct it
    │   ├── InvalidRequest         400  invalid_request_error  invalid_request
    │   ├── FieldNotAllowed        400  invalid_request_error  field_not_allowed
    │   ├── AddressNotAllowed      400  invalid_request_error  address_not_allowed
    │   ├── SizeLimitExceeded      400  invalid_request_error  limit_exceeded
    │   ├── IdempotencyKeyReused   400  invalid_request_error  idempotency_key_reused
    │   ├── NotAuthenticated       401  authentication_error   invalid_api_key
    │   ├── NotPermitted           403  permission_error       permission_denied
    │   ├── Quarantined            403  permission_error       provider_quarantined
    │   ├── NotFound               404  invalid_request_error  not_found
    │   │   ├── ModelNotFound      404  invalid_request_error  model_not_found
    │   │   ├── TaskNotFound       404  invalid_request_error  task_not_found
    │   │   ├── KeyNotFound        404  invalid_request_error  key_not_found
    │   │   ├── FileNotFound       404  invalid_request_error  file_not_found
    │   │   └── BatchNotFound      404  invalid_request_error  batch_not_found
    │   ├── MethodNotAllowed       405  invalid_request_error  method_not_allowed
    │   ├── BodyTooLarge           413  invalid_request_error  request_too_large
    │   ├── EncodingNotSupported   415  invalid_request_error  encoding_not_supported
    │   └── UpgradeRefused         426  invalid_request_error  upgrade_refused
    ├── CapacityError              nobody can correct it now; later it may work
    │   ├── QueueFull              429  rate_limit_error       queue_full
    │   ├── RateLimitReached       a key or a tenant has reached a limit
    │   │   ├── RequestsLimited    429  requests               rate_limit_exceeded
    │   │   ├── TokensLimited      429  tokens                 rate_limit_exceeded
    │   │   └── QuotaExhausted     429  insufficient_quota     insufficient_quota
    │   ├── NoProvider             503  server_error           no_provider_available
    │   ├── Unavailable            503  server_error           service_unavailable
    │   └── GatewayStopping        503  server_error           gateway_stopping
    ├── TaskError                  the task ended without an answer
    │   ├── DeadlineExceeded       504  server_error           deadline_exceeded
    │   ├── BackendFailed          502  server_error           backend_failed
    │   ├── BackendRefused         400  invalid_request_error  backend_refused
    │   ├── ProviderLost           502  server_error           provider_lost
    │   ├── ProviderFault          502  server_error           provider_fault
    │   └── TaskCancelled          499  server_error           cancelled
    └── LeaseLost                  a provider writes to an attempt that it no longer holds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

#: The longest Retry-After, seconds: with a longer one some SDKs give up at once, some
#: ask again at once, and some wait for an hour without a word.
RETRY_AFTER_SECONDS_MAX: Final = 60
#: Supported encodings of a request body.
ENCODINGS: Final = ("gzip", "zstd", "deflate")


class InferLineError(Exception):
    """
    Something went wrong inside InferLine. Try again; if it persists, give x-request-id to the
    operator.
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    #: The Retry-After header; None sends no such header. SDKs honour 1 to 60 s.
    retry_after_seconds: int | None = None
    #: False sends `x-should-retry: false`, which stops the SDKs' own retries; None leaves it to
    #: them.
    should_retry: bool | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))
        self.param = param
        if code is not None:
            self.code = code
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    def body(self) -> dict[str, Any]:
        """
        Return the error in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``.
        """
        return {
            "error": {
                "message": str(self),
                "type": type(self).type,
                "param": self.param,
                "code": self.code,
            }
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the error as stored in a task's row: OpenAI's fields and the HTTP status."""
        return {**self.body()["error"], "status": self.status}

    def headers(self) -> dict[str, str]:
        """Return the response headers that say when, and whether, to try again."""
        headers: dict[str, str] = {}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(
                max(1, min(RETRY_AFTER_SECONDS_MAX, self.retry_after_seconds))
            )
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers


class RequestError(InferLineError):
    """The request can't be served as it is."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidRequest(RequestError):
    """The request is not valid."""


class FieldNotAllowed(RequestError):
    """The request has a field that is not passed on to LLM servers here. Remove it."""

    code = "field_not_allowed"


class AddressNotAllowed(RequestError):
    """LLM servers may not fetch from this address. Send the content itself, as a `data:` URL."""

    code = "address_not_allowed"


class SizeLimitExceeded(RequestError):
    """
    The request asks for more than is allowed here. Ask for less, or split it into several requests.
    """

    code = "limit_exceeded"


class IdempotencyKeyReused(RequestError):
    """The Idempotency-Key was sent with another request before. Send a new key with a new one."""

    code = "idempotency_key_reused"


class NotAuthenticated(RequestError):
    """The API key is missing or not valid. Send `Authorization: Bearer <key>` or `x-api-key`."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    should_retry = False


class NotPermitted(RequestError):
    """The API key is valid, but does not permit this. Use another one, or ask the operator."""

    status = 403
    type = "permission_error"
    code = "permission_denied"
    should_retry = False


class Quarantined(RequestError):
    """
    This provider wrote something that no provider may write. It is refused until an operator runs
    `inferline providers pardon`.
    """

    status = 403
    type = "permission_error"
    code = "provider_quarantined"
    should_retry = False


class NotFound(RequestError):
    """
    There is nothing at this address, and it is not passed on to LLM servers. GET /docs lists the
    addresses.
    """

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """There is no such model. GET /v1/models lists the models."""

    code = "model_not_found"


class TaskNotFound(NotFound):
    """There is no such task, or it is gone: a task is kept for an hour after its deadline."""

    code = "task_not_found"


class KeyNotFound(NotFound):
    """There is no such key. GET /v1/keys lists the keys."""

    code = "key_not_found"


class BatchNotFound(NotFound):
    """There is no such batch, or it ended long ago. GET /v1/batches lists the batches."""

    code = "batch_not_found"


class FileNotFound(NotFound):
    """There is no such file or upload, or its time is over. GET /v1/files lists the files."""

    code = "file_not_found"


class MethodNotAllowed(RequestError):
    """This address does not support that HTTP method. GET /docs lists what it supports."""

    status = 405
    code = "method_not_allowed"


class BodyTooLarge(RequestError):
    """The request body is too large. Send less, or split it into several requests."""

    status = 413
    code = "request_too_large"


class EncodingNotSupported(RequestError):
    """The body is compressed in a way that is not supported here. Send it uncompressed."""

    status = 415
    code = "encoding_not_supported"

    def headers(self) -> dict[str, str]:
        """Return the supported encodings, as HTTP defines it."""
        return super().headers() | {"accept-encoding": ", ".join(ENCODINGS)}


class UpgradeRefused(RequestError):
    """There is no WebSocket at this address. Send the request as a POST."""

    status = 426
    code = "upgrade_refused"
    should_retry = False

    def headers(self) -> dict[str, str]:
        """Return the protocol to use instead, as HTTP defines it."""
        return super().headers() | {"upgrade": "HTTP/1.1", "connection": "Upgrade"}


class CapacityError(InferLineError):
    """There is no room for the request at the moment. Try again later."""

    status = 503
    code = "service_unavailable"
    retry_after_seconds = 5


class QueueFull(CapacityError):
    """The model's queue is too long to answer in time. Try again later."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class RateLimitReached(CapacityError):
    """The key or its tenant has reached a limit. Try again later."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_seconds: int | None = None,
        should_retry: bool | None = None,
        rates: Mapping[str, str] | None = None,
    ) -> None:
        """Add ``rates``, the response headers about the limits."""
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self._rates = dict(rates or {})
        if should_retry is not None:
            self.should_retry = should_retry

    def headers(self) -> dict[str, str]:
        """Return when to try again, and the state of the limits."""
        return super().headers() | self._rates


class RequestsLimited(RateLimitReached):
    """The key or its tenant has reached its limit of requests. Try again later."""


class TokensLimited(RateLimitReached):
    """The key or its tenant has reached its limit of tokens. Try again later."""

    type = "tokens"


class QuotaExhausted(RateLimitReached):
    """
    The key or its tenant has used its tokens of this day. The count begins again at 00:00 UTC.
    """

    type = "insufficient_quota"
    code = "insufficient_quota"
    should_retry = False


class NoProvider(CapacityError):
    """No provider serves this model at the moment. Try again later, or start one."""

    code = "no_provider_available"


class Unavailable(CapacityError):
    """The queue or the store did not answer. Try again in a moment."""


class GatewayStopping(CapacityError):
    """
    The gateway is being stopped; the answer continues without it. Send the request again, or resume
    its stream.
    """

    code = "gateway_stopping"
    retry_after_seconds = 1


class TaskError(InferLineError):
    """The task ended without an answer."""

    status = 502
    code = "task_failed"


class DeadlineExceeded(TaskError):
    """The request was not answered before its deadline."""

    status = 504
    code = "deadline_exceeded"
    should_retry = False


class BackendFailed(TaskError):
    """The LLM server did not give a usable answer, even after further attempts."""

    code = "backend_failed"


class BackendRefused(TaskError):
    """
    The LLM server refused the request and gave no reason in JSON. The status is the LLM server's.
    """

    status = 400
    type = "invalid_request_error"
    code = "backend_refused"


class ProviderLost(TaskError):
    """The provider was lost after part of the answer had been sent. Send the request again."""

    code = "provider_lost"


class ProviderFault(TaskError):
    """The provider wrote something that can't be an answer. Send the request again."""

    code = "provider_fault"

    def __init__(self, breach: str = "") -> None:
        super().__init__()
        #: Its name in `inferline.validation.output_rules`.
        self.breach = breach


class TaskCancelled(TaskError):
    """The task was cancelled."""

    status = 499
    code = "cancelled"
    should_retry = False


class LeaseLost(InferLineError):
    """The attempt is no longer this provider's: it must stop, write nothing and delete nothing."""

    code = "lease_lost"
