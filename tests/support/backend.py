"""A scripted LLM server, so that tests and measurements know what was said, when, and to whom."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

from aiohttp import web

from tests.support import answers, named_answers
from tests.support.answers import Answer, Asked, Json
from tests.support.script import Script, error, reset, scripted, stream, wait_until
from tests.support.templates import rendered

#: Who answers at which path.
ROUTES: dict[str, Callable[[Asked], Answer]] = {
    "/v1/chat/completions": answers.chat,
    "/v1/completions": answers.completion,
    "/v1/responses": named_answers.responses,
    "/v1/messages": named_answers.messages,
    "/v1/embeddings": answers.embeddings,
    "/v1/rerank": answers.rerank,
    "/v1/score": answers.score,
    "/tokenize": answers.tokenize,
}

#: Enough for a test to look at, and no leak in a long measurement.
BODIES_KEPT = 1000


class Backend:
    """The server's app and what a test can see of it. It lives in one event loop."""

    def __init__(
        self,
        *,
        models: Sequence[str] = ("test-model",),
        owned_by: str = "vllm",
        max_model_len: int = 4096,
        slots: int = 4,
        api_key: str | None = None,
        script: Script | None = None,
    ) -> None:
        self.models = list(models)
        self.owned_by = owned_by
        self.max_model_len = max_model_len
        self.slots = slots
        self.api_key = api_key
        self.script = self._first_script = script or Script()
        #: Like a server that has never heard of the option.
        self.refuses_stream_options = False
        #: Whether it continues a chat that ends with an answer, as llama.cpp does.
        self.continues = True
        #: Whether its model thinks before it answers, and can be continued only when told not to.
        self.thinks = False
        #: What its template makes of a message's text if it is like vLLM, which continues only who
        #: asks for it.
        self.vllm: Callable[[str], str] | None = None
        #: Fields of a request that it overlooks.
        self.unknown: frozenset[str] = frozenset()
        self.healthy = True
        self.running = 0
        #: How many of them it has lost: nobody works on them.
        self.lost = 0
        self.running_max = 0
        self.calls: Counter[str] = Counter()
        self.disconnects = 0
        #: When each request came, seconds by the loop's clock.
        self.called_at: deque[float] = deque(maxlen=BODIES_KEPT)
        #: Set whenever a client has left before its answer was complete.
        self.disconnected = threading.Event()
        self.bodies: deque[bytes] = deque(maxlen=BODIES_KEPT)
        #: The header `traceparent` of each request, empty for none.
        self.traceparents: deque[str] = deque(maxlen=BODIES_KEPT)
        #: How often each request was made, a continued one being the same.
        self._seen: Counter[tuple[bytes, str]] = Counter()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        for path in ROUTES:
            app.router.add_post(path, self._answer)
        app.router.add_post("/apply-template", self._template)
        app.router.add_post("/detokenize", self._detokenize)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/props", self._props)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/_script/state", self._state)
        app.router.add_get("/_script/bodies", self._bodies)
        app.router.add_post("/_script/health", self._set_health)
        app.router.add_post("/_script/default", self._set_script)
        app.on_response_prepare.append(self._identify)
        return app

    def state(self) -> Json:
        """Return everything that was counted."""
        return {
            "calls": self.calls.total(),
            "calls_by_path": dict(self.calls),
            "running": self.running,
            "running_max": self.running_max,
            "disconnects": self.disconnects,
            "called_at": list(self.called_at),
        }

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        async with self._counted(request):
            raw = await request.read()
            self.bodies.append(raw)
            self.traceparents.append(request.headers.get("traceparent", ""))
            if refusal := self._refusal(request):
                return refusal
            try:
                body = {k: v for k, v in json.loads(raw).items() if k not in self.unknown}
                script = self.script.changed(body.get("x_script") or {})
            except (ValueError, AttributeError, TypeError) as wrong:
                return error(400, f"cannot be read: {wrong}", "invalid_request_error")
            if body.get("model") not in self.models:
                return error(
                    404, f"The model `{body.get('model')}` does not exist.", "model_not_found"
                )
            if self.refuses_stream_options and "stream_options" in body:
                return error(400, "Unknown field: stream_options", "invalid_request_error")
            is_lost = (script.hang or script.stall_after_tokens is not None) and not script.works
            self.lost += is_lost
            try:
                return await self._play(request, body, script)
            finally:
                self.lost -= is_lost

    @asynccontextmanager
    async def _counted(self, request: web.Request) -> AsyncIterator[None]:
        self.calls[request.path] += 1
        self.called_at.append(asyncio.get_running_loop().time())
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            self.disconnects += 1
            self.disconnected.set()
            raise
        finally:
            self.running -= 1

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error(401, "Incorrect API key provided.", "invalid_api_key")
        return None

    async def _play(self, request: web.Request, body: Json, script: Script) -> web.StreamResponse:
        start = asyncio.get_running_loop().time()
        asked = Asked(body, script.tokens, script.emoji, begun=self._begun(body))
        if script.times is not None:
            self._seen[asked.digest, script.key] += 1
            if self._seen[asked.digest, script.key] > script.times:
                script = script.behaving()
        if self.vllm is not None and "messages" in body:
            try:
                tokens = list(map(ord, rendered(body, self.vllm)))
            except ValueError as wrong:
                return error(400, str(wrong), "BadRequestError")
            if request.path == "/tokenize":
                card = {"count": len(tokens), "max_model_len": self.max_model_len}
                return web.json_response({**card, "tokens": tokens, "token_strs": None})
        if script.hang:
            await asyncio.sleep(script.stall_seconds)
        if script.status:
            return scripted(script, script.status)
        if script.body is not None:
            return scripted(script, 200)
        answer = ROUTES[request.path](asked)
        if body.get("stream"):
            return await stream(request, answer, script, start)
        return await self._whole(request, answer, script, start)

    def _begun(self, body: Json) -> str:
        """
        Return how the answer has begun: the last message, or what stands after a prompt's last
        line.
        """
        last = (body.get("messages") or [{}])[-1]
        goes_on = self.continues if self.vllm is None else body.get("continue_final_message")
        if goes_on and last.get("role") == "assistant":
            return str(last["content"])
        prompt = body.get("prompt")
        return prompt.rpartition("\n")[2] if isinstance(prompt, str) and "\n" in prompt else ""

    async def _template(self, request: web.Request) -> web.Response:
        if self.vllm is not None or not self.continues:
            return error(404, "There is no such route.", "not_found")
        asked = await request.json()
        if self.thinks and (asked.get("chat_template_kwargs") or {}).get("enable_thinking", True):
            message = "Assistant response prefill is incompatible with enable_thinking."
            return error(400, message, "invalid_request_error")
        messages = asked["messages"]
        turns = [f"<{message['role']}>{message['content']}" for message in messages]
        return web.json_response({"prompt": "".join(turns)})

    async def _detokenize(self, request: web.Request) -> web.Response:
        if self.vllm is None:
            return error(404, "There is no such route.", "not_found")
        tokens = (await request.json())["tokens"]
        return web.json_response({"prompt": "".join(map(chr, tokens))})

    async def _whole(
        self, request: web.Request, answer: Answer, script: Script, start: float
    ) -> web.Response:
        if script.stall_after_tokens is not None:
            await asyncio.sleep(script.stall_seconds)
        await wait_until(start + script.first + script.interval * max(0, len(answer.steps) - 1))
        if script.abort_after_tokens is not None:
            reset(request)
        text = json.dumps(answer.whole, ensure_ascii=False, separators=(",", ":"))
        return web.json_response(text=text, headers=script.headers)

    async def _models(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        same = {"object": "model", "created": 1_700_000_000, "owned_by": self.owned_by}
        length = {"max_model_len": self.max_model_len}
        data = [{"id": model, **same, **length} for model in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _set_health(self, request: web.Request) -> web.Response:
        self.healthy = bool((await request.json())["ok"])
        return web.json_response({"ok": self.healthy})

    async def _set_script(self, request: web.Request) -> web.Response:
        """Misbehave from now on as told; ``continues`` besides is whether chats are continued."""
        fields = await request.json()
        self.continues = bool(fields.pop("continues", True))
        self.script = self._first_script.changed(fields)
        return web.json_response({})

    async def _props(self, request: web.Request) -> web.Response:
        settings = {"n_ctx": self.max_model_len}
        return web.json_response(
            {"total_slots": self.slots, "default_generation_settings": settings}
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        label = f'{{engine="0",model_name="{self.models[0]}"}}'
        inside = self.running - self.lost
        waiting = max(0, inside - self.slots)
        return web.Response(
            text="# TYPE vllm:num_requests_running gauge\n"
            f"vllm:num_requests_running{label} {inside - waiting}.0\n"
            "# TYPE vllm:num_requests_waiting gauge\n"
            f"vllm:num_requests_waiting{label} {waiting}.0\n"
        )

    async def _bodies(self, request: web.Request) -> web.Response:
        return web.json_response([body.decode("utf-8", "replace") for body in self.bodies])

    async def _identify(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-request-id"] = f"backend-{self.calls.total()}"

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state())


class BackendThread:
    """A Backend with its own event loop, for tests in the same process."""

    def __init__(self, backend: Backend, port: int = 0) -> None:
        self.backend = backend
        self._port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scripted-backend", daemon=True)

    @property
    def url(self) -> str:
        """Return the address without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(60):
            raise RuntimeError("the scripted backend did not start")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self.backend, self._port) as port:
            self._port = port
            self._ready.set()
            await self._stop.wait()


@asynccontextmanager
async def serving(backend: Backend, port: int = 0) -> AsyncIterator[int]:
    """Serve on the loopback address in this event loop and yield the port; 0 finds a free one."""
    # Cancellation is what makes `running` fall as soon as a client has gone.
    runner = web.AppRunner(
        backend.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _serve_for_ever(backend: Backend, port: int) -> None:
    async with serving(backend, port) as served:
        print(f"listening on http://127.0.0.1:{served}", flush=True)
        await asyncio.Event().wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--model", action="append", help="may be given more than once")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--api-key")
    parser.add_argument("--first-token-seconds", type=float, default=0.05)
    parser.add_argument("--tokens-per-second", type=float, default=25.0)
    parser.add_argument("--tokens", type=int, default=16)
    flags = parser.parse_args()
    interval = 1 / flags.tokens_per_second if flags.tokens_per_second else 0.0
    script = Script(first=flags.first_token_seconds, interval=interval, tokens=flags.tokens)
    backend = Backend(
        models=flags.model or ("test-model",),
        slots=flags.slots,
        api_key=flags.api_key,
        script=script,
    )
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_for_ever(backend, flags.port))


if __name__ == "__main__":
    main()
