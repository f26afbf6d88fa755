"""The dashboard's files, as the gateway serves them: no data is in them, so no key is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

PATH: Final = "/dashboard"

_HERE: Final = Path(__file__).resolve()
#: Where an installed wheel has the files, and where a checkout has them.
_FOLDERS: Final = (_HERE.parents[2] / "dashboard", _HERE.parents[3] / "dashboard")

#: What the page may do, wherever it is served from: load its own files, ask its own host, and
#: nothing else. It shows what strangers named, so no text can become markup either.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # Asked anew each time, answered by ETag.
}


def add(app: FastAPI) -> None:
    """
    Serve the dashboard at `PATH` of ``app``, and lead there who asks for nothing in particular.

    Raises FileNotFoundError without its files.
    """

    async def to_page() -> Response:
        # Relative, because the gateway may be reached at a longer address.
        return RedirectResponse(f"{PATH.removeprefix('/')}/", status_code=307, headers=HEADERS)

    for path in ("/", PATH):
        app.add_api_route(path, to_page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount(f"{PATH}/", _Files(directory=folder()))


def folder() -> Path:
    """Return where the dashboard's files are. Raises FileNotFoundError."""
    for candidate in _FOLDERS:
        if (candidate / "index.html").is_file():
            return candidate
    raise FileNotFoundError(f"The dashboard's files are missing: {_FOLDERS[0]}")


class _Files(StaticFiles):
    """Files, each whole and with the headers that bind the page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # They are small, and a range that is none is no reason for an error of another kind.
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        # Asked for folders, the framework leads to whatever host a request names.
        return await super().get_response("index.html" if path == "." else path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], *args: Any, **named: Any
    ) -> Response:
        response = super().file_response(full_path, *args, **named)
        response.headers.update(HEADERS)
        return response
