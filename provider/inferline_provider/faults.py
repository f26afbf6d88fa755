"""Faults: the reasons why a backend gave no usable answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

SHOULD_RETRY: Final = "x-should-retry"


class Fault(Exception):
    """The backend gave no usable answer."""

    #: Value of the label `error_type` in metrics and spans. Users rely on it: it never changes.
    label: ClassVar[str] = "Fault"


class Busy(Fault):
    """
    The backend has no room now. The attempt does not count.

    `answer` is for the client when waiting no longer helps; with `is_final` it never does.
    """

    label = "Busy"

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

    label = "KeyRefused"

    def __init__(self, reason: str, answer: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


class HealthCheckFailed(Fault):
    """The backend answers its health check with another status than 200."""

    label = "Unwell"

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend answered {status} to GET /health.")
        self.status = status


class BadAnswer(Fault):
    """The backend failed. `answer` is for the client when no attempt is left."""

    label = "Broken"

    def __init__(self, reason: str, answer: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer
        #: Whether a healthy server has failed the task in the same way twice.
        self.is_repeated = False
        #: Whether the backend itself says that repeating does not help.
        self.is_final = answer is not None and answer.headers.get(SHOULD_RETRY) == "false"


class Unlisted(BadAnswer):
    """The backend has no list of its models."""

    label = "Unlisted"


class CannotContinue(Fault):
    """No provider can go on with the part of the answer that earlier attempts have written."""

    label = "CannotContinue"


class NotRepeated(CannotContinue):
    """The backend did not repeat the end of the text that the client has."""

    label = "NotRepeated"


class CannotContinueHere(Fault):
    """This backend can't go on with an answer that others began. Another may."""

    label = "Unfit"


class Unreachable(BadAnswer):
    """The backend does not answer at all."""

    label = "Silent"


class SilentTooLong(BadAnswer):
    """The backend took the request and then sent nothing for too long."""

    label = "Unheard"

    def __init__(self) -> None:
        super().__init__("The backend was silent for too long.")


@dataclass(frozen=True, slots=True)
class BackendAnswer:
    """A whole answer of the backend."""

    status: int
    content_type: str
    body: bytes
    #: The headers by which a client decides when, and if, to try again.
    headers: Mapping[str, str] = field(default_factory=dict)
