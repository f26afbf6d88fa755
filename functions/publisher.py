"""
Puts the dashboard's files into their bucket, and takes them away again: CloudFormation calls it
when a stack with a page is made, changed or deleted.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

from functions._wiring import aws, run
from inferline.aws.api.client import AwsClient
from inferline.gateway.routes import page

INDEX: Final = "index.html"
#: What the page is made of, as browsers want to hear it: they run and apply nothing else.
KINDS: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PLACES: Final = re.compile(r'<meta name="inferline-api"[^>]*>')
#: How long CloudFormation may take to hear the answer.
ANSWER_SECONDS: Final = 10
#: It takes 4 KB of an answer.
REASON_CHARS_MAX: Final = 1000


def handler(event: dict[str, Any], context: Any) -> None:
    """Do what the event asks for, and say how it went. Raises OSError if nobody can be told."""
    reason = ""
    try:
        run(_change(event), context)
    except Exception as error:  # noqa: BLE001  # else CloudFormation waits until it gives up
        reason = f"{type(error).__name__}: {error}"
    _answer(event, reason)


def placed(text: str, api: str, clients: str) -> str:
    """
    Return ``text`` of the page, told where its API is, from there, and which address clients are
    given.

    Raises ValueError if the page has no place for it.
    """
    attributes = f'content="{html.escape(api)}" data-clients="{html.escape(clients)}"'
    document, places = _PLACES.subn(lambda _: f'<meta name="inferline-api" {attributes}>', text)
    if places != 1:
        raise ValueError(f"{INDEX} names its API {places} times")
    return document


async def _change(event: Mapping[str, Any]) -> None:
    """Put what there should be; delete what was there and should not be."""
    properties = event["ResourceProperties"]
    known = {*properties["Files"], *event.get("OldResourceProperties", {}).get("Files", ())}
    wanted = set() if event["RequestType"] == "Delete" else set(properties["Files"])
    async with aws() as client:
        # The index last: it names the others.
        for name in sorted(wanted, key=lambda name: (name == INDEX, name)):
            await _put(client, properties, name)
        for name in sorted(known - wanted):
            await client.s3("DELETE", properties["Bucket"], _key(name))


async def _put(client: AwsClient, properties: Mapping[str, Any], name: str) -> None:
    body = (page.folder() / name).read_bytes()
    if name == INDEX:
        body = placed(body.decode(), properties["Api"], properties["Clients"]).encode()
    headers = {
        "Content-Type": KINDS[Path(name).suffix],
        "Cache-Control": page.HEADERS["cache-control"],
    }
    await client.s3("PUT", properties["Bucket"], _key(name), body, headers=headers)


def _key(name: str) -> str:
    """Return where a file is in the bucket: as the gateway's addresses have it."""
    return f"{page.PATH.strip('/')}/{name}"


def _answer(event: Mapping[str, Any], reason: str) -> None:
    """Tell CloudFormation, which waits for it; an empty ``reason`` is success."""
    response = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": reason[:REASON_CHARS_MAX],
        "PhysicalResourceId": event["ResourceProperties"]["Bucket"],
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    # Its address is signed for a body without a type.
    request = Request(  # noqa: S310  # CloudFormation's own address
        event["ResponseURL"], json.dumps(response).encode(), {"Content-Type": ""}, method="PUT"
    )
    with urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310  # the same
        pass
