"""Errors as HTTP responses, in the shape that OpenAI gives them."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import Response

from inferline.errors import InferLineError


class ErrorObject(BaseModel):
    """An error and what to do about it, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorObject


#: Every route's errors, for the OpenAPI page.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": ErrorBody, "description": "An error; the message says what to do."}
}


def error_response(error: InferLineError) -> Response:
    """Return the HTTP response of an error."""
    return Response(
        json.dumps(error.body()),
        status_code=error.status,
        headers=error.headers(),
        media_type="application/json",
    )
