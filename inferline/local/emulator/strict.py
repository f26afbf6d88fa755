"""
Patches that bring the emulator close enough to AWS for a deployment to be a real check.

It then knows the leading keys of a request, says what was denied to whom, counts calls as made over
TLS, runs functions with nothing but their bundle, and supports alarms on several metrics.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Final

from inferline.local.emulator.long_poll import (
    KNOWN_VERSION,
    AsgiApp,
    AsgiMessage,
    AsgiReceive,
    AsgiSend,
)

log = logging.getLogger(__name__)

#: The attribute that parts every table of ours, of which a policy may name the leading values.
PARTITION_KEY: Final = "pk"

#: Put before the script that runs a Python function: no site-packages, no path from the
#: environment. What the function needs has to be in its bundle, as it does in Lambda.
ALONE: Final = """\
import os, sys
if not sys.flags.no_site:
    os.execv(sys.executable, [sys.executable, "-I", "-S", *sys.argv])
"""

#: The parts of a request that name keys or items.
_NAMING: Final = ("Key", "Item", "RequestItems", "TransactItems")
_EQUALS: Final = re.compile(r"([#\w]+)\s*=\s*(:\w+)")


class OverTls:
    """
    An ASGI middleware that makes every call count as made over TLS, for policies that demand it.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"x-forwarded-proto", b"https")]
        await self._app(scope, receive, send)


def be_strict(iam_actions: Any, lambda_runtime: Any, provisioners: Any, version: str) -> bool:
    """Patch these modules of MiniStack; return False if this release is unknown."""
    if version != KNOWN_VERSION:
        return False
    _mend_rights(iam_actions)
    lambda_runtime._PYTHON_WORKER_SCRIPT = ALONE + lambda_runtime._PYTHON_WORKER_SCRIPT
    alarm_of = provisioners._cw_metric_alarm_record
    provisioners._cw_metric_alarm_record = lambda name, props: alarm_of(name, on_one_metric(props))
    return True


def _mend_rights(iam_actions: Any) -> None:
    context_of = iam_actions.dynamodb_service_context
    action_of = iam_actions.extract_iam_action
    denial_of = iam_actions.access_denied_response

    def with_leading_keys(body: bytes) -> dict[str, Any]:
        return {**context_of(body), **leading_keys_context(body)}

    def of_one(service: str, *request: Any) -> str | None:
        # SQS asks for the right to do to one message what a batch does to many.
        action: str | None = action_of(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    def denied(service: str, action: str, principal: str, *rest: Any, **named: Any) -> Any:
        log.warning("%s was denied %s on %s", principal, action, named.get("resource_arn", "*"))
        return denial_of(service, action, principal, *rest, **named)

    iam_actions.dynamodb_service_context = with_leading_keys
    iam_actions.extract_iam_action = of_one
    iam_actions.access_denied_response = denied


def on_one_metric(alarm: dict[str, Any]) -> dict[str, Any]:
    """Return an alarm's properties, reduced to the first of its metrics if it has several."""
    for metric in alarm.get("Metrics") or ():
        if stat := metric.get("MetricStat"):
            rest = {name: value for name, value in alarm.items() if name != "Metrics"}
            return {**rest, **stat["Metric"], "Period": stat["Period"], "Statistic": stat["Stat"]}
    return alarm


def leading_keys_context(body: bytes) -> dict[str, Any]:
    """
    Return the condition key `dynamodb:LeadingKeys` of a request; empty if it has none, as Scan.
    """
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return {}
    keys = sorted(set(_leading_keys(request))) if isinstance(request, dict) else []
    return {"dynamodb:LeadingKeys": keys} if keys else {}


def _leading_keys(request: dict[str, Any]) -> Iterator[str]:
    yield from _of_query(request)
    for item in _items({name: request[name] for name in _NAMING if name in request}):
        if value := item.get(PARTITION_KEY):
            yield str(next(iter(value.values())))


def _of_query(request: dict[str, Any]) -> Iterator[str]:
    names = request.get("ExpressionAttributeNames") or {}
    values = request.get("ExpressionAttributeValues") or {}
    for name, value in _EQUALS.findall(request.get("KeyConditionExpression") or ""):
        if names.get(name, name) == PARTITION_KEY and value in values:
            yield str(next(iter(values[value].values())))


def _items(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every key and item in a request: alone, in a batch or in a transaction."""
    if isinstance(node, list):
        for child in node:
            yield from _items(child)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in ("Key", "Item"):
                yield value
            elif name == "Keys":
                yield from value
            else:
                yield from _items(value)
