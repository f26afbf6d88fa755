"""The batch routes: create, get, list and cancel batches."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from inferline.accounts.caller import Caller
from inferline.batches import lifecycle
from inferline.batches.batch import ENDPOINTS, Batch
from inferline.batches.creation import METADATA, WINDOW, create
from inferline.batches.progress import is_due, read_progress
from inferline.errors import BatchNotFound, InvalidRequest, Unavailable
from inferline.files.ids import BATCH_ID, is_id
from inferline.fleet.enrolment import STRICT_NUMBER
from inferline.gateway.batches.jobs import BatchJobs
from inferline.gateway.batches.objects import BatchList, BatchObject, batch_object
from inferline.gateway.errors import ERRORS
from inferline.gateway.routes.access import ClientCaller
from inferline.settings import FILE_SECONDS_MIN

router = APIRouter(prefix="/batches", tags=["batches"], responses=ERRORS)


async def _jobs(request: Request) -> BatchJobs:
    jobs: BatchJobs = request.app.batch_jobs
    return jobs


Jobs = Annotated[BatchJobs, Depends(_jobs)]


class OutputExpiry(BaseModel):
    """When the files of a batch expire: so many seconds after they were created."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=FILE_SECONDS_MIN), STRICT_NUMBER]


class NewBatch(BaseModel):
    """A batch to create."""

    #: A file with the purpose `batch`: one JSON object a line, with `custom_id`, `method`, `url`
    #: and `body`.
    input_file_id: str
    endpoint: Annotated[str, Field(json_schema_extra={"enum": list(ENDPOINTS)})]
    #: When the batch expires: `24h`, or from `1h` to `7d`.
    completion_window: Annotated[str, Field(json_schema_extra={"pattern": WINDOW})]
    metadata: Annotated[dict[str, str] | None, Field(json_schema_extra=METADATA)] = None
    output_expires_after: OutputExpiry | None = None


@router.post("", summary="Create a batch")
async def create_batch(new: NewBatch, caller: ClientCaller, jobs: Jobs) -> BatchObject:
    """
    Create a batch of the lines of a file, and return it as `validating`.

    What is wrong with a line is no error of this request: the batch becomes `failed`, and its
    `errors` name the lines.
    """
    batch = await create(
        jobs.parts,
        caller,
        input_file_id=new.input_file_id,
        endpoint=new.endpoint,
        completion_window=new.completion_window,
        metadata=new.metadata,
        output_seconds_kept=_seconds_kept(jobs, new.output_expires_after),
    )
    jobs.begin(batch.tenant, batch.id)
    return batch_object(batch)


@router.get("", summary="List the batches")
async def list_batches(
    caller: ClientCaller,
    jobs: Jobs,
    after: Annotated[str, Query(pattern=f"^({BATCH_ID})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """List the tenant's batches, the newest first, or a page of them behind the id `after`."""
    batches = await jobs.parts.batches.batches(caller.tenant, after=after, limit=limit + 1)
    page = [batch_object(batch) for batch in batches[:limit]]
    return BatchList(
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(batches) > limit,
    )


@router.get("/{batch_id}", summary="Get a batch")
async def get_batch(batch_id: str, caller: ClientCaller, jobs: Jobs) -> BatchObject:
    """Return a batch. Its counts are a few seconds old, or a hundredth of its age."""
    batch, have_ended = await _batch_of(jobs, batch_id, caller), False
    if is_due(batch, jobs.parts.batches.now_ms()):
        with suppress(Unavailable):  # Older counts will do.
            batch, have_ended = await read_progress(jobs.parts, batch)
    if have_ended or not (batch.is_terminal or batch.status == "in_progress"):
        jobs.begin(batch.tenant, batch.id, have_ended=have_ended)
    return batch_object(batch)


@router.post("/{batch_id}/cancel", summary="Cancel a batch")
async def cancel_batch(batch_id: str, caller: ClientCaller, jobs: Jobs) -> BatchObject:
    """
    Cancel a batch: it becomes `cancelling`, and soon `cancelled`. Idempotent.

    What is done is kept; the other lines are in the error file.
    """
    batch = await lifecycle.cancel(jobs.parts, await _batch_of(jobs, batch_id, caller))
    jobs.begin(batch.tenant, batch.id)
    return batch_object(batch)


async def _batch_of(jobs: BatchJobs, batch_id: str, caller: Caller) -> Batch:
    """Return the caller's batch. Raises BatchNotFound, also for another tenant's."""
    batch = await jobs.parts.batches.batch(caller.tenant, batch_id) if is_id(batch_id) else None
    if batch is None:
        raise BatchNotFound(f"No batch found with id {batch_id[:64]!r}.")
    return batch


def _seconds_kept(jobs: BatchJobs, expiry: OutputExpiry | None) -> int:
    longest = jobs.parts.settings.file_seconds_kept
    if expiry is None:
        return longest
    if expiry.seconds > longest:
        raise InvalidRequest(
            f"`output_expires_after.seconds` may be {longest} at most.",
            param="output_expires_after.seconds",
        )
    return expiry.seconds
