"""The LLM server beside this provider, as an HTTP client sees it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

from inferline.enrolment import OfferedModel
from inferline_provider import room
from inferline_provider.room import Room
from inferline_provider.verdict import Broken, Fault, KeyRefused, Silent, Unwell

#: For every look at the backend that is no task.
LOOK_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 10.0
#: How an answer may begin that is to be continued.
BEGUN: Final = "One, two,"

#: The names under which servers tell a model's context length.
_LENGTHS: Final = ("max_model_len", "context_length", "n_ctx", "n_ctx_train")


def root_of(url: str) -> str:
    """
    Return the address of an OpenAI-compatible server without its `/v1`.

    Raises ValueError for what is no such address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an address: it must begin with http:// or https://")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("an address can't have a user, a query or a fragment; keys have own flags")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


class Backend:
    """
    One LLM server. To be used as a context manager.

    Follows no redirects and asks no proxy: it goes where the operator said and nowhere else. Each
    call has its own connection, because llama.cpp closes those it promised to keep.
    """

    def __init__(self, root: str, key: str = "") -> None:
        self._root = root
        self._headers = {"accept-encoding": "identity"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    async def __aenter__(self) -> Self:
        """Open it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # One event of a stream may be one long line; nothing here reads by lines.
            read_bufsize=256 * 1024,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close it."""
        await self._session.close()

    async def models(self) -> list[OfferedModel]:
        """Return the models that the backend lists, whatever their names. Raises Fault."""
        document = await self._look_json("/v1/models")
        listed = document.get("data") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise Broken("The backend's list of models is not one.")
        return [model for entry in listed if (model := _model(entry)) is not None]

    async def check(self) -> None:
        """
        Return if the backend can work now; where it has no `/health`, its models tell.

        Raises Fault.
        """
        async with self._look("/health") as response:
            status = response.status
        if status in (404, 405):
            await self.models()
        elif status != 200:
            raise Unwell(status)

    async def room(self) -> Room:
        """How many tasks the backend may run at once."""
        try:
            told = room.of_props(await self._look_json("/props"))
        except Fault:
            told = None  # Not a llama.cpp.
        return told or room.of_metrics(await self._metrics()) or room.UNKNOWN

    async def waiting(self) -> int | None:
        """How many tasks wait inside the backend; None when it does not tell."""
        return room.waiting(await self._metrics())

    async def _metrics(self) -> str:
        """What the backend tells Prometheus; empty for nothing."""
        try:
            async with self._look("/metrics") as response:
                return await response.text("utf-8", "replace") if response.status == 200 else ""
        except Fault:
            return ""

    async def prefill(self, model: str, text: str, shape: object = None) -> dict[str, bool] | None:
        """
        The fields that have the backend continue the last message of a chat; None when it can't.

        Found out by what it makes of a chat, without having it generate anything. That one ends
        with as many spaces as ``text``: many templates drop those, and then the rest would have
        them twice. ``shape`` is what the client tells the template: some models can only be
        continued when they are told not to think. Raises Silent.
        """
        begun = BEGUN + text[len(text.rstrip()) :]
        asked = {"role": "user", "content": "Count."}
        chat: dict[str, Any] = {"model": model}
        chat["messages"] = [asked, {"role": "assistant", "content": begun}]
        if shape is not None:
            chat["chat_template_kwargs"] = shape
        told = await self._try("/apply-template", chat)  # llama.cpp
        if str(told.get("prompt", "")).endswith(begun):
            return {}
        fields = {"continue_final_message": True, "add_generation_prompt": False}
        told = await self._try("/tokenize", {**chat, **fields})  # vLLM
        if told.get("tokens"):
            told = await self._try("/detokenize", {"model": model, "tokens": told["tokens"]})
            if str(told.get("prompt", "")).endswith(begun):
                return fields
        return None

    async def count_tokens(self, model: str, text: str) -> int | None:
        """How many tokens ``text`` is; None when the backend does not tell. Raises Silent."""
        asked = {"model": model, "content": text, "prompt": text, "add_special_tokens": False}
        tokens = (await self._try("/tokenize", asked)).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def _try(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """What the backend answers to a question that it may not know; empty for no answer."""
        try:
            async with (
                asyncio.timeout(LOOK_SECONDS_MAX),
                self.post(path, json.dumps(document).encode()) as response,
            ):
                found = json.loads(await response.read()) if response.status == 200 else {}
        except (aiohttp.ClientError, OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, traceparent: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Send a client's JSON and yield the response as its body begins.

        Never sent twice: who hangs up may have done the work. Raises Broken.
        """
        headers = {"content-type": "application/json"}
        if traceparent:
            headers["traceparent"] = traceparent
        response = await self._post(path, body, headers)
        try:
            yield response
        finally:
            response.close()  # Not release(): what is unread must not be read.

    async def _post(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        if not path.startswith("/"):
            raise Broken("The task's path is not one.")
        try:
            return await self._session.post(
                self._root + path,
                # aiohttp warns of larger bytes, because they go to the socket in one piece.
                data=body if len(body) < 1 << 20 else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise Silent(f"The backend does not answer: {type(error).__name__}.") from error

    @asynccontextmanager
    async def _look(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the backend about itself. Raises Fault when it does not answer."""
        try:
            async with (
                asyncio.timeout(LOOK_SECONDS_MAX),
                self._session.get(self._root + path, allow_redirects=False) as response,
            ):
                yield response
        except (aiohttp.ClientError, OSError) as error:  # A timeout is an OSError.
            raise Silent(f"The backend does not answer: {type(error).__name__}.") from error

    async def _look_json(self, path: str) -> Any:
        async with self._look(path) as response:
            if response.status in (401, 403):
                raise KeyRefused(f"The backend answered {response.status}: it refuses our key.")
            if response.status != 200:
                raise Broken(f"The backend answered {response.status} to GET {path}.")
            try:
                return json.loads(await response.read())
            except (ValueError, RecursionError) as error:
                raise Broken(f"The backend's answer to GET {path} is not JSON.") from error


def _model(entry: Any) -> OfferedModel | None:
    """Return the model that an entry of the backend's list tells of; None when it has no name."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    owner, created = entry.get("owned_by"), entry.get("created")
    # The name is checked when it is offered: an alias may stand in for one that clients can't use.
    return OfferedModel.model_construct(
        id=entry["id"],
        owned_by=owner[:128] if isinstance(owner, str) else "inferline",
        created=created if isinstance(created, int) and created > 0 else 0,
        context_length=_context_length(entry),
    )


def _context_length(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta")
    for where in (entry, meta if isinstance(meta, dict) else {}):
        for name in _LENGTHS:
            value = where.get(name)
            if isinstance(value, int) and value > 0:
                return value
    return None
