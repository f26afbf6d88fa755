"""Faults: the reasons why a backend gave no usable answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

SHOULD_RETRY: Final = "x-should-retry"


class Fault(Exception):
    """The backend gave no usable answer."""

    #: The fault's name in metrics and spans: users rely on it, so that it never changes.
    error_type: ClassVar[str] = "Fault"


class Busy(Fault):
    """
    The backend has no room now. The attempt does not count.

    `answer` is for the client when waiting no longer helps; with `is_final` it never does.
    """

    error_type = "Busy"

    def __init__(
        self,
        retry_after_seconds: int | None,
        answer: BackendAnswer | None = None,
        *,
        is_final: bool = False,
    ) -> None:
        super().__init__("The backend is busy.")
        self.retry_after_seconds = retry_after_seconds
        self.answer = answer
        self.is_final = is_final


class KeyRefused(Fault):
    """
    The backend refused this provider's key, or what it may do.

    Its answer is never passed on: it may hold secrets. `answer` is one without them for the client,
    in case it was the request that was refused.
    """

    error_type = "KeyRefused"

    def __init__(self, reason: str, answer: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


class HealthCheckFailed(Fault):
    """The backend answers its health check with another status than 200."""

    error_type = "Unwell"

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend answered {status} to GET /health.")
        self.status = status


class BadAnswer(Fault):
    """The backend failed. `answer` is for the client when no attempt is left."""

    error_type = "Broken"

    def __init__(self, reason: str, answer: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer
        #: Whether a healthy server has failed the task in the same way twice.
        self.is_repeated = False
        #: Whether the backend itself says that repeating does not help.
        self.is_final = answer is not None and answer.headers.get(SHOULD_RETRY) == "false"


class Unlisted(BadAnswer):
    """The backend has no list of its models."""

    error_type = "Unlisted"


class CannotContinue(Fault):
    """No provider can go on with the part of the answer that earlier attempts have written."""

    error_type = "CannotContinue"


class NotRepeated(CannotContinue):
    """The backend did not repeat the end of the text that the client has."""

    error_type = "NotRepeated"


class CannotContinueHere(Fault):
    """This backend can't go on with an answer that others began. Another may."""

    error_type = "Unfit"


class Unreachable(BadAnswer):
    """The backend does not answer at all."""

    error_type = "Silent"


class SilentTooLong(BadAnswer):
    """The backend took the request and then sent nothing for too long."""

    error_type = "Unheard"

    def __init__(self) -> None:
        super().__init__("The backend was silent for too long.")


class BrokenOff(BadAnswer):
    """The connection ended before the answer did: the backend may be gone, with all its tasks."""


@dataclass(frozen=True, slots=True)
class BackendAnswer:
    """A whole answer of the backend."""

    status: int
    content_type: str
    body: bytes
    #: The headers by which a client decides when, and if, to try again.
    headers: Mapping[str, str] = field(default_factory=dict)
