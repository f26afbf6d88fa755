"""The framework's bodies and errors in the gateway's form: bounded, and like any other error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferline.errors import (
    BodyTooLarge,
    InferLineError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from inferline.gateway.errors import error_response

#: Characters of an invalid field's name that an error repeats: part of it may be the client's own.
_PARAM_CHARS_MAX: Final = 200


class _Refused(HTTPException):
    """A body that can't be read, as the one kind of error that the framework lets through."""

    def __init__(self, error: InferLineError) -> None:
        super().__init__(error.status)
        self.error = error


def bounded(app: ASGIApp, bytes_max: int) -> ASGIApp:
    """
    Limit the body that ``app`` reads: a framework reads all of it before it checks the key.

    A route with a limit of its own reads the body from `unbounded`.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        left = bytes_max
        scope["state"]["unbounded"] = receive

        async def receive_some() -> Message:
            nonlocal left
            try:
                message = await receive()
            except InferLineError as error:
                raise _Refused(error) from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(BodyTooLarge.status)
            return message

        await app(scope, receive_some, send)

    return serve


def unbounded(request: Request) -> Request:
    """Return a request whose body nobody has begun to read, without the limit of `bounded`."""
    return Request(request.scope, request.state.unbounded)


async def _on_error(request: Request, error: Exception) -> Response:
    return error_response(error if isinstance(error, InferLineError) else InferLineError())


async def _on_http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, _Refused):
        return error_response(error.error)
    status = error.status_code if isinstance(error, HTTPException) else 500
    other = InvalidRequest if 400 <= status < 500 else InferLineError
    response = error_response(_BY_STATUS.get(status, other)())
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    if "allow" in response.headers:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> Iterator[str]:
    """Yield the methods of the request's address; each of its routes knows only its own."""
    names = ("type", "path", "root_path", "headers")
    scope = {name: request.scope[name] for name in names if name in request.scope}
    for method in ("GET", "POST", "DELETE"):
        scope["method"] = method
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield from ("GET", "HEAD") if method == "GET" else (method,)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong with a control request, without the value sent: it may be a secret."""
    errors: Any = error.errors() if isinstance(error, RequestValidationError) else []
    first = errors[0] if errors else {"msg": "The request is not valid", "loc": (), "type": ""}
    if tuple(first["loc"]) == ("body",) or first["type"] == "json_invalid":
        # Also for curl's `-d` without a header: it declares a form.
        return error_response(
            InvalidRequest("Send a JSON object as the body, with `content-type: application/json`.")
        )
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    return error_response(
        InvalidRequest(f"{first['msg']}.", param=field[:_PARAM_CHARS_MAX] or None)
    )


_BY_STATUS: Final[Mapping[int, type[InferLineError]]] = {
    error.status: error for error in (NotFound, MethodNotAllowed, BodyTooLarge)
}
HANDLERS: Final[dict[type[Exception], Any]] = {
    InferLineError: _on_error,
    HTTPException: _on_http_error,
    RequestValidationError: _on_invalid,
}
