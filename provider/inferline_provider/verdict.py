"""What an answer of the backend means for its task: told, tried again, or given up."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from inferline import genai
from inferline.errors import BackendFailed, BackendRefused, InferLineError, ProviderLost
from inferline.store import Outcome

#: Statuses that say "wait", not "no".
_BUSY: Final = frozenset({429, 503})
#: Statuses that speak of the provider's own key, never of the client's request.
_KEY: Final = frozenset({401, 403})
#: Statuses outside of the 4xx that are about the request all the same.
_TOLD: Final = frozenset({501})
#: A 4xx that another attempt may mend.
_TIMED_OUT: Final = 408

#: The fields that hold what was asked for, in the answers of all endpoints.
_RESULTS: Final = frozenset(
    {"choices", "data", "output", "content", "results", "tokens", "count", "score"}
)

#: How long a task waits after a busy backend that did not say for how long, seconds.
BUSY_SECONDS: Final = (1, 5)
#: The longest wait that a backend may ask for, seconds.
RETRY_AFTER_SECONDS_MAX: Final = 60
#: How long a task waits after a failed attempt, seconds.
RETRY_SECONDS: Final = (0, 1)

#: So often an attempt that its backend could not go on with does not count: another may be free.
UNFIT_ATTEMPTS_MAX: Final = 8
#: How long a task waits after such an attempt, seconds: it may come back to the same backend.
UNFIT_SECONDS: Final = (1, 2)

#: Larger answers are judged by their first and last byte: parsing them would hold up the others.
PARSED_BYTES_MAX: Final = 256 * 1024


class Fault(Exception):
    """The backend gave no usable answer."""


class Busy(Fault):
    """The backend has no room now. The attempt does not count."""

    def __init__(self, retry_after_seconds: int | None) -> None:
        super().__init__("The backend is busy.")
        self.retry_after_seconds = retry_after_seconds


class KeyRefused(Fault):
    """The backend refused this provider's key. Its answer is never shown: it may hold secrets."""


class Unwell(Fault):
    """The backend answers its health check with another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend answered {status} to GET /health.")
        self.status = status


class Broken(Fault):
    """The backend failed. `answer` is what a client may be told of it when no attempt is left."""

    def __init__(self, reason: str, answer: Answer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


class Unlisted(Broken):
    """The backend has no list of its models."""


class CannotContinue(Fault):
    """Nobody can honestly go on with what earlier attempts have left of the answer."""


class Unfit(Fault):
    """This backend can't go on with an answer that others began. Another may."""


class Silent(Broken):
    """The backend does not answer at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the backend."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """End the task with this outcome, after `rest` of the answer has been written."""

    outcome: Outcome
    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class HandBack:
    """Give the task back; others may look at it after `hide_seconds`."""

    spared: bool
    hide_seconds: int


def judge(answer: Answer, retry_after: str | None = None) -> Answer:
    """
    Return the answer that the client is told. Raises Fault when it is none to tell.

    A 200 around nothing but an error is an error: some SDKs would take it for an empty answer.
    """
    status = answer.status
    if 200 <= status < 300:
        document = parse(answer.body)
        if document is None:
            raise Broken(f"The backend answered {status} without JSON.")
        if not _is_only_error(document):
            return answer
        status = _error_status(document.get("error") or document)
        answer = Answer(status, answer.content_type, answer.body)
    if status in _BUSY:
        raise Busy(_seconds(retry_after))
    if status in _KEY:
        raise KeyRefused(f"The backend answered {status}: it refuses this provider's key.")
    if (400 <= status < 500 and status != _TIMED_OUT) or status in _TOLD:
        return answer if parse(answer.body) is not None else _in_json(answer)
    raise Broken(f"The backend answered {status}.", answer if _is_error(answer) else None)


def after(
    fault: Fault, *, attempt: int = 1, attempts_left: int, begun: bool, stuck: bool
) -> Finish | HandBack:
    """
    Say what follows a fault.

    A reader may have what was written (`begun`); then only a continuation may follow, and nothing
    at all where there can be none (`stuck`): two answers must not mix.
    """
    if stuck or isinstance(fault, CannotContinue):
        return Finish(failure(ProviderLost()))
    if isinstance(fault, Busy):
        asked = fault.retry_after_seconds
        return HandBack(True, random.randint(*BUSY_SECONDS) if asked is None else asked)
    if isinstance(fault, Unfit) and attempt < UNFIT_ATTEMPTS_MAX:
        return HandBack(True, random.randint(*UNFIT_SECONDS))
    if attempts_left > 0:
        spread = (0, 0) if isinstance(fault, KeyRefused) else RETRY_SECONDS
        return HandBack(False, random.randint(*spread))
    if begun:
        return Finish(failure(ProviderLost()))
    if isinstance(fault, Broken) and fault.answer is not None:
        answer = fault.answer
        return Finish(Outcome(status=answer.status, content_type=answer.content_type), answer.body)
    return Finish(failure(BackendFailed()))


def failure(error: InferLineError) -> Outcome:
    """Return the outcome of a task that failed with `error`."""
    return Outcome(error=error.told())


def parse(body: bytes) -> Any:
    """Return the JSON that `body` is; None for none. A large one is only looked at: see above."""
    text = body.strip()
    if len(text) > PARSED_BYTES_MAX:
        closed = {b"{": b"}", b"[": b"]"}.get(text[:1])
        return {} if closed == text[-1:] else None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def usage_of(document: Any) -> dict[str, int]:
    """Return the token counts that an answer, or the last event with any, tells of."""
    if not isinstance(document, dict):
        return {}
    inner = document.get("response") or document.get("message")
    usage = document.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
    return genai.counts(usage)


def _is_only_error(document: Any) -> bool:
    """Say whether a document tells of an error and of nothing else that a client could use."""
    if not isinstance(document, dict):
        return False
    if document.get("object") == "error":
        return True
    return bool(document.get("error")) and not _RESULTS & document.keys()


def _in_json(answer: Answer) -> Answer:
    """Return a refusal that is no JSON, such as a proxy's page, as an error clients can read."""
    error = BackendRefused(f"The LLM server refused the request with status {answer.status}.")
    return Answer(answer.status, "application/json", json.dumps(error.body()).encode())


def _is_error(answer: Answer) -> bool:
    """Say whether this is an error as OpenAI writes it, which a client can read."""
    document = parse(answer.body)
    if answer.status < 500 or not isinstance(document, dict):
        return False
    error = document.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def _error_status(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else BackendFailed.status


def _seconds(retry_after: str | None) -> int | None:
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return max(1, min(RETRY_AFTER_SECONDS_MAX, int(retry_after)))
