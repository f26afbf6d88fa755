"""The LLM server beside this provider, as an HTTP client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

from inferline.enrolment import WHOLE_MAX, OfferedModel
from inferline.forwarding import CONTENT_TYPE, NOTHING
from inferline.http.connections import Connections
from inferline.http.errors import CannotConnect, ConnectTimeout, HttpError, Silence
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.http.response import Response
from inferline_provider import room
from inferline_provider.room import Room
from inferline_provider.verdict import Broken, Fault, KeyRefused, Silent, Unheard, Unwell

#: For every look at the backend that is no task.
LOOK_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 10.0
#: How an answer may begin that is to be continued.
BEGUN: Final = "One, two,"

#: For how long it is remembered that a backend can't continue answers, seconds.
UNABLE_SECONDS: Final = 60.0

_ABSENT: Final = 404
_JSON: Final = {CONTENT_TYPE: "application/json"}
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

    Follows no redirects: it goes where the operator said, by the proxies that the operator set, and
    nowhere else. Each call has its own connection, because llama.cpp closes those it promised to
    keep.
    """

    def __init__(self, root: str, key: str = "", proxies: Proxies = NO_PROXIES) -> None:
        self._root = root
        self._headers = {"User-Agent": "inferline", "Accept-Encoding": "identity"}
        #: Until when no chat of such a kind is tried to be continued.
        self._unable_until: dict[str, float] = {}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(
            connect_seconds=CONNECT_SECONDS_MAX,
            idle_seconds=0,
            proxies=proxies,
            to="the backend",
        )

    async def __aenter__(self) -> Self:
        """Open it."""
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close it."""
        await self._connections.__aexit__(*exc_info)

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
                told = await response.read() if response.status == 200 else b""
        except Fault:
            return ""
        return told.decode(errors="replace")

    async def prefill(self, model: str, text: str, shape: object = None) -> dict[str, bool] | None:
        """
        The fields that have the backend continue the last message of a chat; None when it can't.

        Found out by what it makes of a chat, without having it generate anything. That one ends
        with as many spaces as ``text``: many templates drop those, and then the rest would have
        them twice. ``shape`` is what the client tells the template: some models can only be
        continued when they are told not to think. Raises Silent.
        """
        begun = BEGUN + text[len(text.rstrip()) :]
        key, now = json.dumps([model, begun, shape]), asyncio.get_running_loop().time()
        if self._unable_until.get(key, 0.0) > now:
            return None
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
        self._unable_until = {k: v for k, v in self._unable_until.items() if v > now}
        self._unable_until[key] = now + UNABLE_SECONDS
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
                self.post(path, json.dumps(document).encode(), LOOK_SECONDS_MAX) as response,
            ):
                found = json.loads(await response.read()) if response.status == 200 else {}
        except Silent:
            raise
        except (Broken, OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @asynccontextmanager
    async def post(
        self,
        path: str,
        body: bytes,
        silence_seconds: float,
        traceparent: str = "",
        *,
        query: str = "",
        forwarded: Mapping[str, str] = NOTHING.headers,
    ) -> AsyncIterator[Response]:
        """
        Send a client's request and yield the response as its body begins; without a body a GET.

        ``forwarded`` are the client's headers, by name in lower case; the body is JSON unless they
        say otherwise.

        Never sent twice: who hangs up may have done the work. ``silence_seconds`` bound the wait
        for it, and then each for more of its body. Raises Broken.
        """
        headers = {**(_JSON if body else {}), **forwarded, **self._headers}
        if traceparent:
            headers["traceparent"] = traceparent
        if not path.startswith("/"):
            raise Broken("The task's path is not one.")
        method, address = "POST" if body else "GET", f"{path}?{query}" if query else path
        response = await self._send_where_it_is(method, address, headers, body, silence_seconds)
        try:
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def _look(self, path: str) -> AsyncIterator[Response]:
        """Ask the backend about itself. Raises Fault when it does not answer."""
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX):
                response = await self._send("GET", path, self._headers, b"", LOOK_SECONDS_MAX)
                try:
                    yield response
                finally:
                    response.close()
        except OSError as error:  # A timeout is one.
            raise _silent(error) from error

    async def _send_where_it_is(
        self, method: str, path: str, headers: dict[str, str], body: bytes, silence_seconds: float
    ) -> Response:
        """Send a request; what most servers have beside their `/v1`, some have in it."""
        response = await self._send(method, path, headers, body, silence_seconds)
        if response.status != _ABSENT or path.startswith("/v1/"):
            return response
        other = await self._send(method, f"/v1{path}", headers, body, silence_seconds)
        if other.status == _ABSENT:  # Neither has it: the first one's word counts.
            response, other = other, response
        response.close()
        return other

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes, silence_seconds: float
    ) -> Response:
        try:
            return await self._connections.send(
                method, self._root + path, headers, body, silence_seconds=silence_seconds
            )
        except (CannotConnect, ConnectTimeout) as error:
            raise _silent(error) from error
        except Silence as error:
            raise Unheard from error
        except HttpError as error:  # It was there, and may have hung up on this request alone.
            raise Broken(f"The backend broke off: {type(error).__name__}.") from error

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


def _silent(error: OSError) -> Silent:
    return Silent(f"The backend does not answer: {type(error).__name__}.")


def _model(entry: Any) -> OfferedModel | None:
    """Return the model that an entry of the backend's list tells of; None when it has no name."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    owner = entry.get("owned_by")
    # The name is checked when it is offered: an alias may stand in for one that clients can't use.
    return OfferedModel.model_construct(
        id=entry["id"],
        owned_by=owner[:128] if isinstance(owner, str) else "inferline",
        created=_whole(entry.get("created")),
        context_length=_context_length(entry),
    )


def _context_length(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta")
    for where in (entry, meta if isinstance(meta, dict) else {}):
        for name in _LENGTHS:
            if value := _whole(where.get(name)):
                return value
    return None


def _whole(told: Any) -> int:
    """A number above 0 that the gateway takes, else 0: no backend's fancy keeps a provider out."""
    return told if type(told) is int and 0 < told <= WHOLE_MAX else 0
