"""One AWS address made of several emulators: each call goes to the one that has its service."""

from __future__ import annotations

import argparse
import asyncio
import json

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

#: What the JSON protocols name in `x-amz-target`, and what it is called here.
SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}
#: Only between two processes; each side has its own.
_PER_HOP = ("host", "connection", "transfer-encoding", "content-length", "keep-alive")
_SESSION = web.AppKey("session", ClientSession)


def service_of(request: web.Request) -> str:
    """Return the service that a call is for; S3 and the others speak no JSON."""
    target = request.headers.get("x-amz-target", "").partition(".")[0]
    return SERVICES.get(target, "other")


def provisioned(operation: str, body: bytes) -> bytes | None:
    """
    Return a call for an emulator without tables on demand; None for one that it can do without.
    """
    if operation == "UpdateTimeToLive":
        return None
    if operation not in ("CreateTable", "UpdateTable"):
        return body
    asked = json.loads(body)
    units = {"ReadCapacityUnits": 1000, "WriteCapacityUnits": 1000}
    if asked.pop("BillingMode", None):
        asked["ProvisionedThroughput"] = units
    indexes = asked.get("GlobalSecondaryIndexes") or []
    updates = asked.get("GlobalSecondaryIndexUpdates") or []
    for index in [*indexes, *(update["Create"] for update in updates)]:
        index["ProvisionedThroughput"] = units
    return json.dumps(asked).encode()


def app(addresses: dict[str, str], *, provisioning: bool = False) -> web.Application:
    """Return what passes each call on to ``addresses`` by service; "other" is for all the rest."""

    async def passed(request: web.Request) -> web.Response:
        base = addresses.get(service_of(request), addresses["other"])
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _PER_HOP}
        body: bytes | None = await request.read()
        if provisioning and service_of(request) == "dynamodb":
            operation = request.headers["x-amz-target"].rpartition(".")[2]
            body = provisioned(operation, body or b"")
            if body is None:
                return web.json_response({})
        call = request.app[_SESSION].request(
            request.method, URL(base + request.raw_path, encoded=True), data=body, headers=headers
        )
        async with call as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _PER_HOP}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def session(app: web.Application):
        async with ClientSession(
            connector=TCPConnector(limit=0, force_close=True), auto_decompress=False
        ) as made:
            app[_SESSION] = made
            yield

    made = web.Application(client_max_size=16 * 1024 * 1024)
    made.router.add_route("*", "/{path:.*}", passed)
    made.cleanup_ctx.append(session)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", action="append", required=True, metavar="SERVICE=URL")
    parser.add_argument("--provisioned", action="store_true", help="no tables on demand there")
    flags = parser.parse_args()
    where = dict(word.split("=", 1) for word in flags.to)
    web.run_app(
        app(where, provisioning=flags.provisioned),
        host="127.0.0.1",
        port=flags.port,
        access_log=None,
        print=None,
        loop=asyncio.new_event_loop(),
    )
