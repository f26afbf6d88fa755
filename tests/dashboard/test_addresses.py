"""The page finds its API wherever it is served: at a longer address, or beside `/api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
from aiohttp import web
from playwright.async_api import expect

from tests.dashboard.conftest import Visit
from tests.support.gateway import MODEL, running_gateway

#: What the page is told of its API, unless a deployment knows better.
PLACES = b'content="../v1/ ../api/v1/"'


@asynccontextmanager
async def in_front(
    url: str, there: Callable[[str], str | None], places: bytes = PLACES
) -> AsyncIterator[str]:
    """
    Yield a proxy for the gateway at ``url``; ``there`` says where a path leads, None for nowhere,
    and ``places`` what the page is told of its API.
    """

    async def forward(request: web.Request) -> web.Response:
        path = there(request.path)
        if path is None:
            return web.Response(status=403, text="<Error>AccessDenied</Error>")
        answer = await client.get(path, params=dict(request.query))
        kept = {
            name: answer.headers[name]
            for name in ("content-type", "content-security-policy")
            if name in answer.headers
        }
        body = answer.content.replace(PLACES, places)
        return web.Response(status=answer.status_code, body=body, headers=kept)

    app = web.Application()
    app.router.add_get("/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def test_at_a_longer_address(visit: Visit) -> None:
    async with (
        running_gateway() as gateway,
        in_front(gateway.url, lambda path: path.removeprefix("/team/llm")) as front,
    ):
        await gateway.know()
        page = await visit(f"{front}/team/llm", f"#/models/{MODEL}")

        await expect(page.locator("#live")).to_have_attribute("data-state", "live")

        assert f'base_url="{front}/team/llm/v1"' in await page.text("#snippets")


async def test_beside_an_api_under_the_same_host(visit: Visit) -> None:
    def there(path: str) -> str | None:
        return path if path.startswith(("/dashboard/", "/api/")) else None

    async with running_gateway() as gateway, in_front(gateway.url, there) as front:
        await gateway.know()
        page = await visit(front, f"#/models/{MODEL}")

        await expect(page.locator("#live")).to_have_attribute("data-state", "live")

        assert f'base_url="{front}/api/v1"' in await page.text("#snippets")
        # That there is no /v1 stands in the console, and is no fault of the page.
        page.faults[:] = [fault for fault in page.faults if "403" not in fault]
        await page.context.close()  # Before the gateway ends: the page goes on asking it.


async def test_clients_are_given_an_address_of_their_own_where_there_is_one(visit: Visit) -> None:
    places = b'content="../api/v1/" data-clients="https://api.example/api/v1"'

    async with (
        running_gateway() as gateway,
        in_front(gateway.url, lambda path: path, places) as front,
    ):
        await gateway.know()
        page = await visit(front, f"#/models/{MODEL}")

        await expect(page.locator("#live")).to_have_attribute("data-state", "live")

        assert 'base_url="https://api.example/api/v1"' in await page.text("#snippets")
        await page.context.close()
