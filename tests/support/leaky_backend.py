"""An LLM server whose words are its own: what it says in each scene is in no request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.canary import Aviary
from tests.support.script import reset

#: Where its answers may be seen.
KEPT = "tasks table"
#: Where the headers of its requests are noted, and with them its key.
HEADERS = "headers at the LLM server"

Scene = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Mouth:
    """Answers a request with the scene that its `x_scene` names."""

    def __init__(self, model: str, aviary: Aviary) -> None:
        self.model = model
        self._aviary = aviary
        #: How many requests of each scene have come.
        self.heard: dict[str, int] = {}
        self._scenes: dict[str, Scene] = {
            "plain": self._plain,
            "stream": self._stream,
            "refusal": self._refusal,
            "page": self._page,
            "fault": self._fault,
            "garbage": self._garbage,
            "garbled": self._garbled,
            "busy": self._busy,
            "key": self._key,
            "drip": self._drip,
            "break": self._break,
            "hang": self._hang,
            "wait": self._hang,
        }

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/{path:.*}", self._answer)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self._aviary.saw(HEADERS, json.dumps(dict(request.headers)))
        is_form = request.content_type == "multipart/form-data"
        scene = "plain" if is_form else (await request.json())["x_scene"]
        self.heard[scene] = self.heard.get(scene, 0) + 1
        return await self._scenes[scene](request)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model}]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    def _said(self, what: str) -> str:
        return self._aviary.fly(f"the LLM server's {what} #{sum(self.heard.values())}", KEPT)

    def _event(self, text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        event = {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps({**event, 'model': self.model})}\n\n".encode()

    async def _plain(self, _: web.Request) -> web.Response:
        message = {"role": "assistant", "content": f"Well, {self._said('answer')}."}
        document: dict[str, Any] = {"id": "x", "object": "chat.completion", "model": self.model}
        document["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        document["usage"] = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        return web.json_response(document, headers={"x-note": self._said("header")})

    async def _begun(self, request: web.Request, texts: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(texts):
            await response.write(self._event(f"{self._said('stream')} " * 40))
        return response

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = await self._begun(request, 3)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = await self._begun(request, 1)
        await asyncio.Event().wait()
        return response

    async def _break(self, request: web.Request) -> web.StreamResponse:
        response = await self._begun(request, 1)
        await asyncio.sleep(0.3)
        reset(request)
        return response

    async def _hang(self, _: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    def _error(self, what: str, status: int) -> web.Response:
        error = {
            "message": self._said(what),
            "type": "x",
            "param": None,
            "code": self._said("code"),
        }
        headers = {"x-note": self._said("header")}
        return web.json_response({"error": error}, status=status, headers=headers)

    async def _refusal(self, _: web.Request) -> web.Response:
        return self._error("refusal", 422)

    async def _fault(self, _: web.Request) -> web.Response:
        return self._error("fault", 500)

    async def _busy(self, _: web.Request) -> web.Response:
        return self._error("pause", 429)

    async def _key(self, _: web.Request) -> web.Response:
        return self._error("refusal of a key", 401)

    async def _page(self, _: web.Request) -> web.Response:
        text = f"<html><body>{self._said('page')}</body></html>"
        return web.Response(text=text, status=400, content_type="text/html")

    async def _garbage(self, _: web.Request) -> web.Response:
        return web.Response(text=f"{self._said('garbage')} {{", content_type="application/json")

    async def _garbled(self, _: web.Request) -> web.Response:
        wrong = self._said("nonsense")
        document = {
            "choices": wrong,
            "usage": {"prompt_tokens": wrong},
            "model": wrong,
            "id": [wrong],
        }
        return web.json_response(document)
