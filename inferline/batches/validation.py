"""Validation: reads a batch's input once, checks each line, and keeps the lines for the shards."""

from __future__ import annotations

import asyncio
from typing import Final

from inferline.accounts.caller import ANYONE, Caller
from inferline.batches.batch import LineError
from inferline.batches.line import LineChecker
from inferline.batches.splitting import LineSplitter
from inferline.batches.spool import LineSpool
from inferline.batches.work import Work
from inferline.errors import ModelNotFound, RequestError
from inferline.files.content import read_file
from inferline.files.file import StoredFile
from inferline.fleet.registry import Model

#: The errors of one batch that are listed; nobody reads more.
ERRORS_MAX: Final = 100
#: Other work of the process may go on after so many bytes of lines: about 2 ms.
PAUSE_BYTES: Final = 64 * 1024


class BatchRefused(Exception):
    """The input can't be run; `errors` says why."""

    def __init__(self, *errors: LineError) -> None:
        super().__init__()
        self.errors = errors


async def validate(work: Work, spool: LineSpool) -> Model:
    """
    Put the lines of a batch's input into ``spool``, if all are valid, and return their model.

    Raises BatchRefused, WorkLost, and Unavailable.
    """
    file = await work.parts.files.file(work.batch.tenant, work.batch.input_file_id)
    if file is None:
        raise _refused("file_not_found", "The input file was deleted, or has expired.")
    _check_size(work, file)
    reading = _Reading(work, spool)
    async for piece in read_file(work.parts.objects, file):
        await work.keep()
        await reading.take(piece)
        del piece  # Or it would stay in memory beside the next one.
    await reading.end()
    return await _model(work, reading)


class _Reading:
    """The lines read so far, and what is wrong with them."""

    def __init__(self, work: Work, spool: LineSpool) -> None:
        settings = work.parts.settings
        self._lines_max = settings.batch_lines_max
        self._line_bytes_max = settings.body_bytes_max
        self._splitter = LineSplitter(settings.body_bytes_max)
        self._checker = LineChecker(work.batch.endpoint, work.parts.guard)
        self._spool = spool
        self._errors: list[LineError] = []
        self._lines = 0
        #: The number of the line that names the model, for an error about that.
        self.first = 0

    @property
    def model(self) -> str:
        """Return the model that the lines name."""
        return self._checker.model

    async def take(self, piece: bytes) -> None:
        """Read a piece of the file. Raises BatchRefused once there are too many lines or errors."""
        read = 0
        for number, line in self._splitter.lines(piece):
            self._check(number, line)
            read += len(line or b"")
            if read >= PAUSE_BYTES:
                await asyncio.sleep(0)
                read = 0

    async def end(self) -> None:
        """Read the last line. Raises BatchRefused if anything was wrong."""
        for number, line in self._splitter.last():
            self._check(number, line)
        if self._errors:
            raise BatchRefused(*self._errors)
        if not self._lines:
            raise _refused("empty_file", "The input file has no lines.")

    def _check(self, number: int, line: bytes | None) -> None:
        self._lines += 1
        if self._lines > self._lines_max:
            raise _refused(
                "too_many_tasks",
                f"A batch may have {self._lines_max} lines. Split the file into several batches.",
            )
        self.first = self.first or number
        try:
            if line is None:
                raise RequestError(
                    f"A line may have {self._line_bytes_max} bytes.", code="request_too_large"
                )
            self._spool.add(line, self._checker.prefix_of(line))
        except RequestError as error:
            self._errors.append(LineError(error.code, str(error), number, error.param))
            if len(self._errors) == ERRORS_MAX:
                raise BatchRefused(*self._errors) from None


async def _model(work: Work, reading: _Reading) -> Model:
    """Return the lines' model, if the batch's tenant and key may use it. Raises BatchRefused."""
    name = (await caller_of(work)).asked_name(reading.model)
    model = await work.parts.registry.model(name) if name else None
    if model is None:
        message = "There is no such model. GET /v1/models lists the models."
        raise BatchRefused(LineError(ModelNotFound.code, message, reading.first, "body.model"))
    return model


async def caller_of(work: Work) -> Caller:
    """Return the caller that created a batch. A key revoked since counts: it was valid then."""
    batch, parts = work.batch, work.parts
    if not batch.key_id:
        return ANYONE
    key, tenant = await parts.keys.key(batch.key_id), await parts.tenants.tenant(batch.tenant)
    return Caller(
        tenant=batch.tenant,
        key_id=batch.key_id,
        models=key.models if key else (),
        tenant_models=tenant.models,
        is_reserved=tenant.providers is not None,
    )


async def check_backlog(work: Work, lines: int) -> None:
    """Raise BatchRefused if the tenant's batches would have too many lines without a result."""
    limit, waiting = work.parts.settings.tenant_batch_lines_max, lines
    if not limit:
        return
    for tenant, batch_id in await work.parts.batches.live_batches():
        if tenant == work.batch.tenant and batch_id != work.batch.id:
            other = await work.parts.batches.batch(tenant, batch_id)
            waiting += other.undone if other and not other.is_terminal else 0
    if waiting > limit:
        raise _refused(
            "token_limit_exceeded",
            f"The lines of all your batches that wait for a result may be {limit} together, and "
            f"would be {waiting}. Create this batch again when others have ended.",
        )


def _check_size(work: Work, file: StoredFile) -> None:
    limit = work.parts.settings.batch_bytes_max
    if file.bytes > limit:
        raise _refused(
            "file_too_large",
            f"The input file of a batch may have {limit} bytes. Split it into several batches.",
        )


def _refused(code: str, message: str) -> BatchRefused:
    return BatchRefused(LineError(code, message))
