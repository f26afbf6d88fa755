"""Batches as OpenAI shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from inferline.batches.batch import Batch, BatchStatus


class BatchErrorObject(BaseModel):
    """A reason why a batch failed validation."""

    code: str
    #: Of the input file, from 1; null: it concerns the whole file.
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """The first hundred such reasons."""

    object: Literal["list"] = "list"
    data: list[BatchErrorObject]


class RequestCounts(BaseModel):
    """Lines. Those that expired or were cancelled count as neither completed nor failed."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(BaseModel):
    """Input tokens by kind."""

    cached_tokens: int


class OutputTokensDetails(BaseModel):
    """Output tokens by kind."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """The tokens of all lines with a result, as the LLM servers counted them."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class BatchObject(BaseModel):
    """A batch. Dates are seconds since 1970; null: not reached."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    #: Null until the input was read.
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    #: The results of lines that were answered; null if there are none.
    output_file_id: str | None
    #: The other lines, each with the reason; null if there are none.
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """One page of a tenant's batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(batch: Batch) -> BatchObject:
    """Return a batch as OpenAI shows it."""
    errors = [
        BatchErrorObject(code=e.code, line=e.line, message=e.message, param=e.param)
        for e in batch.errors
    ]
    # The ids are chosen before there are files.
    has_files = batch.is_terminal
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model or None,
        errors=BatchErrors(data=errors) if errors else None,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=(batch.output_file_id or None) if has_files else None,
        error_file_id=(batch.error_file_id or None) if has_files else None,
        created_at=batch.created_ms // 1000,
        in_progress_at=_seconds(batch.in_progress_ms),
        expires_at=batch.expires_ms // 1000,
        finalizing_at=_seconds(batch.finalizing_ms),
        completed_at=_seconds(batch.completed_ms),
        failed_at=_seconds(batch.failed_ms),
        expired_at=_seconds(batch.expired_ms),
        cancelling_at=_seconds(batch.cancelling_ms),
        cancelled_at=_seconds(batch.cancelled_ms),
        request_counts=RequestCounts(
            total=batch.total, completed=batch.completed, failed=batch.failed
        ),
        usage=_usage(batch),
        metadata=dict(batch.metadata) if batch.metadata is not None else None,
    )


def _seconds(ms: int) -> int | None:
    return ms // 1000 if ms else None


def _usage(batch: Batch) -> BatchUsage:
    """Return the token counts under the names of the Responses API."""
    usage, read, written = batch.usage, batch.input_tokens, batch.output_tokens
    return BatchUsage(
        input_tokens=read,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.get("cached_tokens", 0)),
        output_tokens=written,
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=usage.get("reasoning_tokens", 0)
        ),
        total_tokens=usage.get("total_tokens", 0) or read + written,
    )
