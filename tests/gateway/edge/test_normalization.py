"""What of a request's form is borne: slashes, HEAD, compressed bodies, pages of other origins."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from inferline.errors import BodyTooLarge, EncodingNotSupported, InvalidRequest
from inferline.gateway.app import create_app
from inferline.gateway.edge.cors import EXPOSED
from inferline.gateway.edge.decompression import MEMBERS_MAX, unpack
from inferline.gateway.edge.normalization import tidy
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()


async def answered(gateway: Gateway, asking: Any, tail: bytes = b"{}") -> tuple[bytes, Any]:
    """The body that reached the task, and what the client got."""
    asked = asyncio.create_task(asking)
    taken = await gateway.take()
    await taken.finish(tail=tail)
    assert taken.body is not None
    return taken.body, await asked


class TestAddresses:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("/", "/"),
            ("//", "/"),
            ("/v1//models", "/v1/models"),
            ("//v1/models/", "/v1/models"),
            ("/v1/chat//completions//", "/v1/chat/completions"),
            ("/v1//models//org/name/", "/v1/models/org/name"),
            ("/v1/models/a//b", "/v1/models/a//b"),
            ("/v1/models///", "/v1/models"),
            ("/dashboard/", "/dashboard/"),
            ("//dashboard//", "/dashboard/"),
            ("/dashboard//page.js", "/dashboard/page.js"),
        ],
    )
    def test_slashes_too_many_mean_nothing(self, written: str, meant: str) -> None:
        assert meant == tidy(written)

    @pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1//chat/completions", f"/{PATH}"])
    async def test_a_request_to_such_an_address_is_served_without_a_redirect(
        self, gateway: Gateway, client: httpx.AsyncClient, path: str
    ) -> None:
        url = httpx.URL(gateway.url).copy_with(raw_path=path.encode())

        body, response = await answered(gateway, client.post(url, content=BODY))

        assert (BODY, 200) == (body, response.status_code)

    @pytest.mark.parametrize("path", ["/v1//models", "/v1/models/", f"/v1/models/{MODEL}/"])
    async def test_models_are_told_there(
        self, gateway: Gateway, client: httpx.AsyncClient, path: str
    ) -> None:
        url = httpx.URL(gateway.url).copy_with(raw_path=path.encode())

        assert MODEL in (await client.get(url)).text


class TestHead:
    @pytest.mark.parametrize(
        "path",
        [
            *("/health", "/v1/models", f"/v1/models/{MODEL}", "/queue/stats", "/v1/overview"),
            *("/docs", "/openapi.json", "/metrics", "/dashboard/", "/dashboard", "/"),
        ],
    )
    async def test_it_is_wherever_get_is_and_brings_no_body(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        got, head = await client.get(path), await client.head(path)

        assert got.status_code == head.status_code < 400
        assert got.headers["content-type"] == head.headers["content-type"] if got.content else True
        assert b"" == head.content

    async def test_what_is_not_there_is_not_there_either(self, client: httpx.AsyncClient) -> None:
        responses = [await client.head(path) for path in ("/api/hello", PATH)]

        assert [404, 405] == [response.status_code for response in responses]
        assert [b""] * 2 == [response.content for response in responses]
        assert "GET, HEAD" == (await client.post("/v1/models")).headers["allow"]

    async def test_an_error_is_as_long_as_a_get_would_tell_it(
        self, client: httpx.AsyncClient
    ) -> None:
        for path in ("/v1/nope", PATH, "/v1/messages", "/v1/messages/nope"):
            got, head = await client.get(path), await client.head(path)

            assert got.status_code == head.status_code >= 400
            assert got.headers["content-length"] == head.headers["content-length"]

    async def test_a_look_at_a_stream_takes_it_from_nobody(
        self, gateway: Gateway, client: httpx.AsyncClient
    ) -> None:
        asked = asyncio.create_task(client.post(PATH, content=BODY))
        taken = await gateway.take()

        looked = await client.head(f"/v1/tasks/{taken.task.ref.id}/stream")

        row = gateway.store.task(taken.task.ref)
        assert row is not None
        assert (200, taken.task.reader) == (looked.status_code, row.reader)
        await taken.finish(tail=b"{}")
        assert 200 == (await asked).status_code


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    from backports import zstd

    return bytes(zstd.compress(data))


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "its old name": ("X-GZip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd),
    "in two pieces": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "as it is": ("identity", bytes),
}


class TestCompressedBodies:
    @pytest.mark.parametrize("kind", PACKED)
    async def test_a_body_is_unpacked(
        self, gateway: Gateway, client: httpx.AsyncClient, kind: str
    ) -> None:
        name, pack = PACKED[kind]
        headers = {"content-encoding": name}

        body, response = await answered(
            gateway, client.post(PATH, content=pack(BODY), headers=headers)
        )

        assert (BODY, 200) == (body, response.status_code)

    async def test_it_may_come_in_chunks(self, gateway: Gateway, client: httpx.AsyncClient) -> None:
        packed = gzip.compress(BODY)

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(len(packed)):
                yield packed[at : at + 1]

        headers = {"content-encoding": "gzip"}
        body, _ = await answered(gateway, client.post(PATH, content=pieces(), headers=headers))

        assert body == BODY

    @pytest.mark.parametrize("path", [PATH, "/v1/providers"])
    async def test_another_encoding_is_refused_with_those_that_are_read(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        response = await client.post(path, content=b"x", headers={"content-encoding": "br"})

        error = response.json()["error"]
        assert (415, "encoding_not_supported") == (response.status_code, error["code"])
        assert "gzip, zstd, deflate" == response.headers["accept-encoding"]

    @pytest.mark.parametrize("path", [PATH, "/v1/providers"])
    @pytest.mark.parametrize("damage", ["cut", "garbled", "more behind it"])
    async def test_damaged_data_is_a_bad_request(
        self, client: httpx.AsyncClient, path: str, damage: str
    ) -> None:
        packed = gzip.compress(BODY)
        sent = {"cut": packed[:-9], "garbled": b"?" + packed, "more behind it": packed + b"?"}

        response = await client.post(
            path, content=sent[damage], headers={"content-encoding": "gzip"}
        )

        assert 400 == response.status_code
        assert "not valid gzip" in response.json()["error"]["message"]

    @pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
    def test_nothing_is_unpacked_beyond_the_limit(self, name: str) -> None:
        pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}[name]

        assert bytes(1000) == unpack(pack(bytes(1000)), name, 1000)
        with pytest.raises(BodyTooLarge):
            unpack(pack(bytes(1001)), name, 1000)

    def test_nothing_is_put_together_of_more_pieces_than_a_client_has_reason_to_send(self) -> None:
        assert b"" == unpack(gzip.compress(b"") * (MEMBERS_MAX - 1), "gzip", 10)
        with pytest.raises(InvalidRequest):
            unpack(gzip.compress(b"") * (MEMBERS_MAX + 1), "gzip", 10)

    def test_several_encodings_at_once_are_none_of_those(self) -> None:
        with pytest.raises(EncodingNotSupported):
            unpack(gzip.compress(gzip.compress(b"x")), "gzip, gzip", 10)

    @pytest.mark.parametrize("lines", [["gzip", "gzip"], ["gzip, br"], ["gzip", "identity, br"]])
    async def test_they_are_told_together_and_on_several_lines(
        self, client: httpx.AsyncClient, lines: list[str]
    ) -> None:
        headers = [("content-encoding", line) for line in lines]

        response = await client.post(PATH, content=gzip.compress(BODY), headers=headers)

        assert 415 == response.status_code

    @pytest.mark.parametrize("lines", [["identity, GZIP"], ["gzip,"], ["gzip", "identity"]])
    async def test_what_changes_nothing_may_stand_beside_one(
        self, gateway: Gateway, client: httpx.AsyncClient, lines: list[str]
    ) -> None:
        headers = [("content-encoding", line) for line in lines]

        asking = client.post(PATH, content=gzip.compress(BODY), headers=headers)
        body, response = await answered(gateway, asking)

        assert (BODY, 200) == (body, response.status_code)

    async def test_where_there_is_no_body_its_encoding_does_not_matter(
        self, client: httpx.AsyncClient
    ) -> None:
        headers = {"content-encoding": "br"}

        for path in ("/dashboard/", "/v1/models"):
            assert 200 == (await client.get(path, headers=headers)).status_code
        assert 400 == (await client.post(PATH, headers=headers)).status_code

    async def test_behind_an_edge_that_spoils_them_none_is_read(self, gateway: Gateway) -> None:
        app = create_app(gateway.parts)

        async def edge(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["takes_packed"] = False
            await app(scope, receive, send)

        transport = httpx.ASGITransport(app=edge)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", timeout=60
        ) as client:
            headers = {"content-encoding": "gzip"}
            response = await client.post(PATH, content=gzip.compress(BODY), headers=headers)

            plain = await client.post(PATH, content=b"?", headers={"content-encoding": "identity"})

        assert [415, 400] == [response.status_code, plain.status_code]

    async def test_too_much_of_it_is_told_as_too_much(self) -> None:
        async with running_gateway(body_bytes_max=1000) as gateway:
            headers = {"content-encoding": "gzip"}
            large = gzip.compress(BODY + b" " * 1000)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
                responses = [
                    await client.post(path, content=large, headers=headers)
                    for path in (PATH, "/v1/providers")
                ]

        assert [413, 413] == [response.status_code for response in responses]
        assert all("Send less" in response.text for response in responses)


ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type, x-stainless-lang",
}


class TestOtherOrigins:
    @pytest.mark.parametrize("origins", [ORIGIN, f"https://other.example, {ORIGIN}", "*"])
    async def test_a_page_asks_before_without_a_key_and_reads_every_header(
        self, origins: str
    ) -> None:
        async with (
            running_gateway(access="keys", cors_origins=origins) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            before = await client.options(PATH, headers=PREFLIGHT)
            refused = await client.post(PATH, headers={"origin": ORIGIN})

        assert 200 == before.status_code
        assert before.headers["access-control-allow-origin"] in (ORIGIN, "*")
        assert "POST" in before.headers["access-control-allow-methods"]
        assert "x-stainless-lang" in before.headers["access-control-allow-headers"]
        assert 401 == refused.status_code
        assert refused.headers["access-control-allow-origin"] in (ORIGIN, "*")
        assert set(EXPOSED) == set(refused.headers["access-control-expose-headers"].split(", "))

    async def test_a_browser_may_ask_whether_a_gateway_at_home_takes_it(self) -> None:
        async with (
            running_gateway(cors_origins=ORIGIN) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            headers = {**PREFLIGHT, "access-control-request-private-network": "true"}
            response = await client.options(PATH, headers=headers)

        assert 200 == response.status_code
        assert "true" == response.headers["access-control-allow-private-network"]

    async def test_an_origin_that_is_not_named_gets_no_leave(self) -> None:
        async with (
            running_gateway(cors_origins="https://other.example") as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            response = await client.options(PATH, headers=PREFLIGHT)

        assert "access-control-allow-origin" not in response.headers

    async def test_unless_it_is_set_nobody_gets_leave(self, client: httpx.AsyncClient) -> None:
        before = await client.options(PATH, headers=PREFLIGHT)
        asked = await client.get("/v1/models", headers={"origin": ORIGIN})

        assert 405 == before.status_code
        for response in (before, asked):
            assert not [name for name in response.headers if name.startswith("access-control")]

    async def test_every_header_of_an_answer_that_is_ours_can_be_read(
        self, gateway: Gateway, client: httpx.AsyncClient
    ) -> None:
        _, response = await answered(gateway, client.post(PATH, content=BODY))

        ours = {name for name in response.headers if name.startswith("x-")}
        assert ours <= set(EXPOSED)
