"""A gateway with a fault: it breaks at what a request holds, or tells it in its log."""

from __future__ import annotations

import json
import logging
import sys

from inferline.cli import main
from inferline.gateway.line import Line
from inferline.task import Task

log = logging.getLogger("inferline.gateway.line")
submit = Line.submit


async def faulty(self: Line, task: Task, body: bytes) -> None:
    """Submit, but for the fault that the request itself names."""
    fault = json.loads(body).get("x_fault")
    if fault == "break":
        raise RuntimeError(f"can't take {body!r}") from KeyError(body.decode())
    if fault == "leak":
        log.info("submits %s", body)
    await submit(self, task, body)


if __name__ == "__main__":
    Line.submit = faulty  # type: ignore[method-assign]
    sys.exit(main())
