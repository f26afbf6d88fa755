"""A gateway, or a provider, with a fault: it breaks at what a request holds, or logs it."""

from __future__ import annotations

import json
import logging
import sys

from inferline.cli import main
from inferline.gateway.submit.submission import Submission, Submitter
from inferline_provider.backend.classification import Finish
from inferline_provider.serve.exchange import Exchange

log = logging.getLogger("inferline.gateway.submit.submission")
submit, ask = Submitter.submit, Exchange._ask


async def submit_or_not(self: Submitter, submission: Submission) -> None:
    """Submit, but for the fault that the request itself names."""
    body = submission.body
    fault = json.loads(body).get("x_fault")
    if fault == "break":
        raise RuntimeError(f"can't take {body!r}") from KeyError(body.decode())
    if fault == "leak":
        log.info("submits %s", body)
    await submit(self, submission)


async def ask_or_not(self: Exchange) -> Finish:
    """Return the same of an attempt."""
    body = self._message.body or b"{}"
    if json.loads(body).get("x_fault") == "break later":
        raise RuntimeError(f"can't ask {body!r}") from KeyError(body.decode())
    return await ask(self)


if __name__ == "__main__":
    Submitter.submit = submit_or_not  # type: ignore[method-assign]
    Exchange._ask = ask_or_not  # type: ignore[method-assign]
    sys.exit(main())
