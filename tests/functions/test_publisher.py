"""The page's files come into their bucket and go from it, and CloudFormation is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from aiohttp import web

from inferline.gateway.routes import page
from tests.support.cloud import Cloud, invoked
from tests.support.runtime_api import Function

FILES = sorted(path.name for path in page.folder().iterdir())
CLIENTS = "https://abc.execute-api.us-east-1.amazonaws.com/api/v1"


@dataclass(slots=True)
class CloudFormation:
    """Waits for a custom resource's answer."""

    url: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[str | None] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.kinds.append(request.headers.get("content-type"))
        self.told.append(json.loads(await request.read()))
        return web.Response()

    def event(self, kind: str, bucket: str, files: list[str], **more: Any) -> dict[str, Any]:
        """What it asks a function for."""
        return {
            "RequestType": kind,
            "ResponseURL": self.url,
            "StackId": "a-stack",
            "RequestId": "a-request",
            "LogicalResourceId": "Published",
            "ResourceProperties": {
                "Bucket": bucket,
                "Api": "../api/v1/",
                "Clients": CLIENTS,
                "Files": files,
            },
            **more,
        }


@pytest.fixture
async def cloudformation() -> AsyncIterator[CloudFormation]:
    made = CloudFormation()
    app = web.Application()
    app.router.add_put("/answer", made.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/answer?Signature=a%2Fb"
    yield made
    await runner.cleanup()


@pytest.fixture
async def bucket(cloud: Cloud) -> str:
    name = f"{cloud.settings.stack}-page"
    await cloud.client.s3("PUT", name, "")
    return name


def get(cloud: Cloud, bucket: str, name: str) -> httpx.Response:
    return httpx.get(f"{cloud.settings.endpoint_url}/{bucket}/dashboard/{name}", timeout=60)


async def test_every_file_is_put_as_a_browser_wants_it(
    cloud: Cloud, bucket: str, cloudformation: CloudFormation, function: Callable[..., Function]
) -> None:
    result = await invoked(function("publisher"), cloudformation.event("Create", bucket, FILES))

    assert result.error is None
    assert ["SUCCESS"] == [told["Status"] for told in cloudformation.told]
    for name in FILES:
        answer = get(cloud, bucket, name)
        assert 200 == answer.status_code
        assert "no-cache" == answer.headers["cache-control"]
    assert "text/javascript; charset=utf-8" == get(cloud, bucket, "api.js").headers["content-type"]
    told = f'<meta name="inferline-api" content="../api/v1/" data-clients="{CLIENTS}">'
    assert told in get(cloud, bucket, "index.html").text


async def test_the_answer_is_what_cloudformation_waits_for(
    bucket: str, cloudformation: CloudFormation, function: Callable[..., Function]
) -> None:
    await invoked(function("publisher"), cloudformation.event("Create", bucket, []))

    expected = {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": bucket,
        "StackId": "a-stack",
        "RequestId": "a-request",
        "LogicalResourceId": "Published",
    }
    assert [expected] == cloudformation.told
    assert [""] == cloudformation.kinds  # Its address is signed for none.


async def test_what_the_page_no_longer_has_is_deleted(
    cloud: Cloud, bucket: str, cloudformation: CloudFormation, function: Callable[..., Function]
) -> None:
    before = cloudformation.event("Create", bucket, ["index.html", "app.js"])
    after = cloudformation.event(
        "Update", bucket, ["index.html"], OldResourceProperties=before["ResourceProperties"]
    )
    publisher = function("publisher")

    for event in (before, after):
        await invoked(publisher, event)

    assert ["SUCCESS"] * 2 == [told["Status"] for told in cloudformation.told]
    assert 200 == get(cloud, bucket, "index.html").status_code
    assert 404 == get(cloud, bucket, "app.js").status_code


async def test_deleting_it_leaves_the_bucket_empty_and_may_be_repeated(
    cloud: Cloud, bucket: str, cloudformation: CloudFormation, function: Callable[..., Function]
) -> None:
    publisher = function("publisher")

    for kind in ("Create", "Delete", "Delete"):
        await invoked(publisher, cloudformation.event(kind, bucket, FILES))

    assert ["SUCCESS"] * 3 == [told["Status"] for told in cloudformation.told]
    assert {404} == {get(cloud, bucket, name).status_code for name in FILES}


async def test_a_failure_is_told_and_not_waited_for(
    cloudformation: CloudFormation, function: Callable[..., Function]
) -> None:
    result = await invoked(
        function("publisher"), cloudformation.event("Create", "there-is-none", FILES)
    )

    assert result.error is None
    [told] = cloudformation.told
    assert "FAILED" == told["Status"]
    assert "NoSuchBucket" in told["Reason"]
