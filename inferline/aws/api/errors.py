"""AWS's refusals as InferLine's own errors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from inferline.errors import InferLineError, Unavailable

_Answer = TypeVar("_Answer")


class ConditionFailed(InferLineError):
    """A refused conditional write; ``item`` is the row as it was, typed, empty if none."""

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self.item = item


class TransactionRefused(InferLineError):
    """A refused transaction; ``reasons`` has a code and the row as it was for each of its parts."""

    def __init__(self, reasons: list[dict[str, Any]]) -> None:
        super().__init__()
        self.reasons = [(part.get("Code", "None"), part.get("Item") or {}) for part in reasons]


async def translated(answer: Awaitable[_Answer], message: str | None = None) -> _Answer:
    """
    Await a call of `AwsClient`, and raise InferLine's errors for botocore's.

    They are ConditionFailed, TransactionRefused, and Unavailable for everything else. The message
    of Unavailable goes to clients, so it holds no ARN and no table name; its cause has them.
    """
    try:
        return await answer
    except (ClientError, BotoCoreError) as error:
        raise _translation(error, message) from error


def _translation(error: ClientError | BotoCoreError, message: str | None) -> InferLineError:
    response: dict[str, Any] = dict(error.response) if isinstance(error, ClientError) else {}
    code = response.get("Error", {}).get("Code")
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(response.get("Item") or {})
    if code == "TransactionCanceledException":
        return TransactionRefused(response.get("CancellationReasons") or [])
    return Unavailable(message)
