"""Faults: why a backend gave no usable answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SHOULD_RETRY: Final = "x-should-retry"


class Fault(Exception):
    """Failure of the backend to give a usable answer."""

    #: Metrics and spans name the fault so, as `error_type`; empty: by its class.
    error_type = ""


class Busy(Fault):
    """
    The backend has no room now. The attempt does not count.

    `answer` is what the client is told when waiting no longer helps; with `is_final` it never does.
    """

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
    The backend refused this provider's key, or what it may do. Its answer is never shown: it may
    hold secrets. `told` is what a client may hear if it was about the request after all.
    """

    def __init__(self, reason: str, told: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.told = told


class HealthCheckFailed(Fault):
    """The backend answers its health check with another status than 200."""

    error_type = "Unwell"

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend answered {status} to GET /health.")
        self.status = status


class BadAnswer(Fault):
    """Failure of the backend. `answer` is for the client, once no attempt is left."""

    error_type = "Broken"

    def __init__(self, reason: str, answer: BackendAnswer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer
        #: Whether a server that is well has failed the task in the same way twice.
        self.is_repeated = False
        #: Whether the backend itself says that repeating does not help.
        self.is_final = answer is not None and answer.headers.get(SHOULD_RETRY) == "false"


class Unlisted(BadAnswer):
    """The backend has no list of its models."""

    error_type = "Unlisted"


class CannotContinue(Fault):
    """Nobody can honestly go on with what earlier attempts have left of the answer."""


class NotRepeated(CannotContinue):
    """The backend did not say again what is there already."""


class CannotContinueHere(Fault):
    """This backend can't go on with an answer that others began. Another may."""

    error_type = "Unfit"


class Unreachable(BadAnswer):
    """Silence: the backend does not answer at all."""

    error_type = "Silent"


class SilentTooLong(BadAnswer):
    """The backend took the request and then sent nothing for too long."""

    error_type = "Unheard"

    def __init__(self) -> None:
        super().__init__("The backend was silent for too long.")


@dataclass(frozen=True, slots=True)
class BackendAnswer:
    """A whole answer of the backend."""

    status: int
    content_type: str
    body: bytes
    #: Those of its headers that tell a client when, and whether, to ask again.
    headers: Mapping[str, str] = field(default_factory=dict)
