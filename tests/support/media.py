"""A scripted server of speech and pictures, which also tells what reached it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Any, cast

from aiohttp import web

from tests.support.backend import Backend

SOUND = bytes(range(256)) * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def fields(content_type: str, body: bytes) -> dict[str, str]:
    """Return the parts of a form, as another parser than the product's reads them."""
    form = message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    parts = cast("list[Message]", form.get_payload())
    named = ((part.get_param("name", header="content-disposition"), part) for part in parts)
    return {str(name): str(part.get_payload()) for name, part in named}


class MediaBackend(Backend):
    """Has what speaches, whisper.cpp, vLLM and LocalAI have, with answers that can be told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.received: list[Received] = []
        #: What the next requests are answered with; None: as their endpoint does.
        self.scripted: Callable[[], web.Response] | None = None

    def app(self) -> web.Application:
        app = super().app()
        for path in ("transcriptions", "translations"):
            app.router.add_post(f"/v1/audio/{path}", self._heard)
        app.router.add_post("/v1/audio/speech", self._spoken)
        for path in ("generations", "edits", "variations"):
            app.router.add_post(f"/v1/images/{path}", self._painted)
        app.router.add_get("/tokenizer_info", self._tokenizer)
        app.router.add_post("/v1/tokens", self._tokenizer)
        return app

    async def _note(self, request: web.Request) -> bytes:
        headers = {name.lower(): text for name, text in request.headers.items()}
        body = await request.read()
        self.received.append(Received(request.method, request.path_qs, headers, body))
        return body

    async def _heard(self, request: web.Request) -> web.StreamResponse:
        form = fields(request.headers["content-type"], await self._note(request))
        if self.scripted is not None:
            return self.scripted()
        text = f"{form['model']} heard {len(form['file'])} characters"
        if form.get("stream") == "true":
            return await self._events(request, "transcript.text", text)
        if form.get("response_format", "json") == "json":
            usage = {"type": "tokens", "input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
            return web.json_response({"text": text, "usage": usage})
        kinds = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
        return web.Response(text=text, content_type=kinds[form["response_format"]])

    async def _spoken(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await self._note(request))
        if self.scripted is not None:
            return self.scripted()
        if asked.get("stream_format") == "sse":
            return await self._events(request, "speech.audio", "UklGRg==")
        response = web.StreamResponse(headers={"content-type": "audio/mpeg"})
        await response.prepare(request)
        for at in range(0, len(SOUND), 10_000):
            await response.write(SOUND[at : at + 10_000])
            await asyncio.sleep(0)
        return response

    async def _painted(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        picture = {"b64_json": "iVBORw0KGgo" * 20_000}
        return web.json_response({"created": 1, "data": [picture]})

    async def _tokenizer(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        return web.json_response({"tokenizer_class": "scripted"})

    async def _events(self, request: web.Request, kind: str, text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in ({"type": f"{kind}.delta", "delta": text}, {"type": f"{kind}.done"}):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response
