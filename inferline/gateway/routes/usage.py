"""The usage routes: a tenant's usage and its last requests."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from inferline.gateway.errors import ERRORS
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.dependencies import Parts
from inferline.gateway.routes.objects import RequestList, RequestObject, UsageList, UsageObject
from inferline.usage.report import (
    AGO,
    DIMENSIONS,
    Report,
    dimensions,
    last_requests,
    moment,
    request_row,
)

#: How long the text of a time or of dimensions may be, characters.
_TEXT_CHARS_MAX: Final = 64
_LISTED_MAX: Final = 1000

_DIMENSION: Final = f"({'|'.join(DIMENSIONS)})"
#: What `dimensions` and `moment` take, as the documentation has it; they are the judges.
By = Annotated[
    str,
    Query(
        max_length=_TEXT_CHARS_MAX,
        json_schema_extra={"pattern": rf"^\s*({_DIMENSION}\s*)?(,\s*({_DIMENSION}\s*)?)*$"},
    ),
]
Moment = Annotated[
    str,
    Query(
        max_length=_TEXT_CHARS_MAX,
        json_schema_extra={
            "anyOf": [{"pattern": AGO}, {"format": "date"}, {"format": "date-time"}]
        },
    ),
]


router = APIRouter(tags=["control"], responses=ERRORS)


@router.get("/usage", summary="Get the usage", response_model_exclude_unset=True)
async def get_usage(
    caller: ClientCaller,
    parts: Parts,
    by: By = "model",
    since: Moment = "24h",
    until: Moment = "0m",
) -> UsageList:
    """
    Sum up the ended requests of the caller's tenant by any of tenant, key, model, provider, hour
    and day. Times are ages such as `90m`, `12h` or `7d`, or dates.
    """
    now = parts.usage.now_ms()
    report = Report(
        tenant=caller.tenant,
        by=dimensions(by),
        since_ms=moment(since, now, "since"),
        until_ms=moment(until, now, "until"),
    )
    await report.make(parts.usage)
    fields = report.as_dict()
    rows = [UsageObject(object="usage", **row) for row in fields.pop("data")]
    return UsageList(object="list", data=rows, **fields)


@router.get("/usage/requests", summary="List the last requests")
async def list_requests(
    caller: ClientCaller,
    parts: Parts,
    since: Moment = "1h",
    limit: Annotated[int, Query(ge=1, le=_LISTED_MAX)] = 100,
) -> RequestList:
    """
    List the last ended requests of the caller's tenant, newest first, while their tasks are kept:
    for an hour after their deadlines.
    """
    first = moment(since, parts.usage.now_ms(), "since")
    spent = await last_requests(parts.usage, caller.tenant, first, limit)
    return RequestList(data=[RequestObject(**request_row(each)) for each in spent])
