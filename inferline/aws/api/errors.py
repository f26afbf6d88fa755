"""What AWS answers when it does not do what it was asked, in InferLine's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from inferline.aws.api.client import AwsClient, Service
from inferline.errors import InferLineError, Unavailable


class ConditionFailed(InferLineError):
    """A conditional write was refused; ``item`` is the row as it was, marshalled, empty if none."""

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self.item = item


class TransactionRefused(InferLineError):
    """A transaction was refused; ``reasons`` has a code and the row as it was for each part."""

    def __init__(self, reasons: list[dict[str, Any]]) -> None:
        super().__init__()
        self.reasons = [(one.get("Code", "None"), one.get("Item") or {}) for one in reasons]


@contextmanager
def translated(message: str | None = None) -> Iterator[None]:
    """
    Raise ConditionFailed, TransactionRefused or Unavailable for what botocore raises inside.

    The message of Unavailable goes to clients, so it holds no ARN and no table name; the cause has
    them.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _translation(error, message) from error


async def call(
    client: AwsClient, service: Service, operation: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """
    One call of a JSON API of AWS.

    Raises ConditionFailed, TransactionRefused or Unavailable, nothing of botocore's.
    """
    try:
        return await client.call(service, operation, request)
    except (ClientError, BotoCoreError) as error:
        raise _translation(error, None) from error


def _translation(error: ClientError | BotoCoreError, message: str | None) -> InferLineError:
    response: dict[str, Any] = dict(error.response) if isinstance(error, ClientError) else {}
    code = response.get("Error", {}).get("Code")
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(response.get("Item") or {})
    if code == "TransactionCanceledException":
        return TransactionRefused(response.get("CancellationReasons") or [])
    return Unavailable(message)
