"""Shared by every function: one event loop per process, stores opened once, and JSON logs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Generic, Self, TypeVar

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from inferline import logs
from inferline.aws.api.client import AwsClient
from inferline.errors import Unavailable
from inferline.settings import Settings, warnings

T = TypeVar("T")

#: A handler ends itself so long before Lambda ends it, seconds.
MARGIN_SECONDS: Final = 5.0
#: Libraries that tell of each request, or of what went wrong with values from it.
_TALKATIVE: Final = ("asyncio", "aws_xray_sdk", "botocore", "mangum", "uvicorn")

#: It is this process's, because clients and their connections belong to a loop.
LOOP: Final = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)

settings: Final = Settings.from_env(os.environ)


class _Formatter(LambdaPowertoolsFormatter):
    """Writes lines as JSON, without the words of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line."""
        return super().format(logs.wordless(record))

    def formatException(self, ei: logs.ExcInfo) -> str:
        """Write where an exception came from."""
        return logs.where(ei[1]) if ei[1] is not None else ""


def log_json() -> None:
    """Write every log line as JSON, with its place and no more than the code put into it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter(service=settings.stack, serialize_stacktrace=False))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(logging.ERROR)
    for name in ("mangum.http", "uvicorn.error"):  # Their errors tell an exception's message.
        logging.getLogger(name).disabled = True


log_json()
for warning in warnings(os.environ):
    logging.getLogger(__name__).warning("%s", warning)


class Opened(Generic[T]):
    """Something that is opened at its first use and lives as long as the process."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._opening = opening
        self._lock: asyncio.Lock | None = None
        self._open: AbstractAsyncContextManager[T] | None = None
        self._value: T | None = None

    def at_start(self) -> Self:
        """Open it now, where this is Lambda: until the first request, time there is free."""
        if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
            with suppress(Unavailable):  # It may be back for the first request.
                LOOP.run_until_complete(self())
        return self

    async def __call__(self) -> T:
        """Return the value, opening it if needed; after a failure the next call tries again."""
        self._lock = self._lock or asyncio.Lock()  # Here, because it belongs to a loop.
        async with self._lock:
            if self._value is None:
                opening = self._opening()
                self._value = await opening.__aenter__()
                self._open = opening  # Else it would be collected, and closed.
        return self._value


@asynccontextmanager
async def aws() -> AsyncIterator[AwsClient]:
    """Open a client for functions that need only the stores."""
    where = settings.region, settings.endpoint_url or None
    async with AwsClient(*where, proxies=settings.proxies) as client:
        yield client


def run(work: Coroutine[Any, Any, T], context: Any) -> T:
    """Do ``work`` on the process's loop. Raises TimeoutError before Lambda's time is over."""
    seconds = max(1.0, context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS)
    return LOOP.run_until_complete(asyncio.wait_for(work, seconds))
