"""The page's files as the gateway serves them: to anybody, bound by a policy, kept by ETag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inferline.gateway.routes import page
from tests.support.gateway import running_gateway

FILES = sorted(path.name for path in page.folder().iterdir())


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client without a key of a gateway that asks for keys."""
    async with (
        running_gateway(access="keys") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as http,
    ):
        yield http


@pytest.mark.parametrize("path", ["/", "/dashboard"])
async def test_the_short_addresses_lead_to_the_page_wherever_the_gateway_is(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert (307, "dashboard/") == (answer.status_code, answer.headers["location"])


@pytest.mark.parametrize("name", ["", *FILES])
async def test_every_file_is_for_anybody_and_bound_by_the_policy(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await client.get(f"/dashboard/{name}")

    assert 200 == answer.status_code
    assert page.HEADERS.items() <= dict(answer.headers).items()


async def test_the_policy_lets_nothing_in_but_the_page_itself() -> None:
    wanted = {
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"),
    }

    assert wanted <= set(page.POLICY.split("; "))


async def test_an_unchanged_file_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/dashboard/style.css")

    again = await client.get(
        "/dashboard/style.css", headers={"if-none-match": first.headers["etag"]}
    )

    assert (304, b"") == (again.status_code, again.content)
    assert page.POLICY == again.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["nothing.js", "../pyproject.toml", "%2e%2e/pyproject.toml"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/dashboard/{path}")

    assert (404, "not_found") == (answer.status_code, answer.json()["error"]["code"])


async def test_the_data_needs_a_key(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/overview")

    assert (401, "invalid_api_key") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".js", ".html"))])
def test_no_text_can_become_markup_and_nothing_is_fetched_from_elsewhere(name: str) -> None:
    text = (Path(page.folder()) / name).read_text()

    for never in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert never not in text
    for never in ("localStorage", "sessionStorage", "document.cookie", "https://", " style="):
        assert never not in text
