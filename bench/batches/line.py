"""InferLine's own line in virtual time: one provider, requests of a trace, and a batch beside."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.autoslots.engine import ANSWER, DONE, LAST, TOKEN, Engine, Prompt
from bench.batches.trace import LINE_TOKENS, SLOTS, STEP_SECONDS, Request, Text, Trace, shape
from bench.sim import virtual_time
from bench.sim.far import FarQueue, FarStore
from bench.sim.virtual_line import Gateway, HealthyServer, ProviderRoutes, provide
from bench.sim.virtual_time import VirtualClock
from inferline.fleet.enrolment import OfferedModel
from inferline.memory.objects import MemoryObjects
from inferline.memory.registry import MemoryRegistry
from inferline.names import slug
from inferline.settings import Settings
from inferline.tasks.queue import Message
from inferline.tasks.shard import LINES_MAX, Shard, input_key
from inferline.tasks.task import Task, TaskRef
from inferline.validation import payload
from inferline_provider import settings
from inferline_provider.stopping import Stopping

PATH = "/v1/chat/completions"
MODEL = "model"
BATCH = "batch_00000000000000000000000000"
#: Lines run for so long before anything counts, seconds: all slots are busy with them then.
WARM_SECONDS = 20.0
#: No engine makes more tokens a second of lines.
TOKENS_SECOND_MAX = SLOTS / STEP_SECONDS
#: Nobody gives up, is taken to be gone or is refused.
SETTINGS = Settings(request_seconds_max=3600, reader_seconds=3600, queue_depth_max=100_000)
DAY_MS = 86_400_000


@dataclass(slots=True)
class LineProgress:
    """Progress of one line at the engine, over all the times it was there."""

    #: How long its answer has become, and how many of its tokens, from the first of the prompt on,
    #: have been computed or made at some time.
    answered: int = 0
    reached: int = 0
    times: int = 0


@dataclass(slots=True)
class Measured:
    """Results of a trace."""

    #: Seconds of each request until its first token, and then between two tokens on average.
    firsts: list[float] = field(default_factory=list)
    betweens: list[float] = field(default_factory=list)
    #: Requests that were answered.
    answered: int = 0
    #: Tokens of lines while it counted: those that were new, and all that the engine made.
    line_tokens: int = 0
    line_tokens_made: int = 0
    #: Tokens of lines' prompts and beginnings that the engine computed, and those that it had
    #: computed or made before.
    prompt_tokens: int = 0
    prompt_tokens_again: int = 0
    #: How often a line was begun, beyond its first time.
    resumed: int = 0
    seconds: float = 0.0


class Server(HealthyServer):
    """The LLM server of the provider: the engine, which continues a chat that ends in an answer."""

    def __init__(self, world: World) -> None:
        super().__init__(OfferedModel(id=MODEL))
        self._world = world

    async def prefill(self, model: str, text: str, shape: object) -> dict[str, bool]:
        """Continue the last message."""
        return {"continue_final_message": True, "add_generation_prompt": False}

    async def count_tokens(self, model: str, text: str) -> int:
        """Return how many characters the text has, as the engine does."""
        return len(text)

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        document = json.loads(body)
        contents = [message["content"] for message in document["messages"]]
        begun = contents.pop() if document["messages"][-1]["role"] == "assistant" else ""
        text = Text("".join(contents), document["tokens"])
        run = self._world.line if "line" in document else self._world.request
        tokens = run(document.get("line", document.get("request")), text, begun)
        try:
            yield (_Stream if document.get("stream") else _Document)(tokens)
        finally:
            await tokens.aclose()


class _Stream:
    """The engine's answer, token by token."""

    status = 200

    def __init__(self, tokens: AsyncGenerator[int]) -> None:
        self._tokens = tokens
        self.headers = {"content-type": "text/event-stream"}

    async def pieces(self) -> AsyncGenerator[bytes]:
        async for left in self._tokens:
            yield TOKEN if left else LAST
        yield DONE


class _Document:
    """The engine's answer in one piece, once it is whole."""

    status = 200

    def __init__(self, tokens: AsyncGenerator[int]) -> None:
        self._tokens = tokens
        self.headers = {"content-type": "application/json"}

    async def pieces(self) -> AsyncGenerator[bytes]:
        text = "".join([ANSWER async for _ in self._tokens])
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        yield json.dumps({"object": "chat.completion", "choices": choices}).encode()


class World:
    """A line, its engine, its clients and a batch."""

    def __init__(self, trace: Trace, *, seed: int, with_batch: bool) -> None:
        self.trace = trace
        self._with_batch = with_batch
        chance = random.Random(seed)
        self.store, self.bodies = FarStore(chance), MemoryObjects()
        self.objects = MemoryObjects()
        self.queue = FarQueue(chance, self.store.now_ms)
        self.registry = MemoryRegistry(VirtualClock())
        self.gateway = Gateway(SETTINGS, self, self.registry, self.queue)
        self._routes = ProviderRoutes(self.gateway.enrolments)
        self._engine = Engine(shape(), seed)
        self.result = Measured(seconds=trace.seconds)
        self._progress: dict[int, LineProgress] = {}
        self._sent: dict[int, float] = {}
        self._ended: dict[int, asyncio.Event] = {}
        #: Whether what happens now is noted.
        self.counts = False

    async def run(self) -> Measured:
        """Let everything happen for the seconds of the trace, after those that warm it up."""
        stopping = Stopping()
        chosen = settings.ProviderSettings(base_url="", backend="", id="p", slots=SLOTS)
        providing = asyncio.create_task(provide(chosen, Server(self), self, self._routes, stopping))
        await asyncio.sleep(1)
        if self._with_batch:
            await self._submit_batch()
        await asyncio.sleep(WARM_SECONDS)
        self.counts = True
        clients = [asyncio.create_task(self._ask(*each)) for each in enumerate(self.trace.requests)]
        await asyncio.sleep(self.trace.seconds)
        self.counts = False
        for client in clients:
            client.cancel()
        stopping.ask()
        stopping.ask()
        await providing
        return self.result

    async def request(self, number: int, text: Text, begun: str) -> AsyncGenerator[int]:
        """Yield at each token of a request's answer how many are still to come."""
        clock, first = asyncio.get_running_loop().time, 0.0
        async for left in self._engine.complete(Prompt(text.prompt), text.tokens):
            if not first and self.counts:
                first = clock()
                self.result.firsts.append(first - self._sent[number])
            yield left
        if first and text.tokens > 1 and self.counts:
            self.result.betweens.append((clock() - first) / (text.tokens - 1))
        self._ended[number].set()

    async def line(self, number: int, text: Text, begun: str) -> AsyncGenerator[int]:
        """Yield the same for a line, of whose answer the beginning may be there."""
        progress = self._progress.setdefault(number, LineProgress())
        prompt, made = Prompt(text.prompt + begun), len(begun)
        self.result.resumed += self.counts and progress.times > 0
        progress.times += 1
        try:
            async for left in self._engine.complete(prompt, text.tokens - len(begun)):
                made += 1
                self.made(progress, made)
                yield left
        finally:
            self.computed(progress, prompt, len(text.prompt) + made)

    def made(self, progress: LineProgress, made: int) -> None:
        """Note a line's token: the one of that number."""
        if self.counts:
            self.result.line_tokens_made += 1
            self.result.line_tokens += made > progress.answered
        progress.answered = max(progress.answered, made)

    def computed(self, progress: LineProgress, prompt: Prompt, length: int) -> None:
        """Note what was computed of a line's prompt when it leaves the engine."""
        known = prompt.cached + prompt.computed
        if self.counts:
            self.result.prompt_tokens += prompt.computed
            self.result.prompt_tokens_again += max(0, min(known, progress.reached) - prompt.cached)
        progress.reached = max(progress.reached, known if prompt.left else length)

    async def _ask(self, number: int, request: Request) -> None:
        await asyncio.sleep(request.at)
        self._sent[number] = asyncio.get_running_loop().time()
        ended = self._ended[number] = asyncio.Event()
        text = request.text
        messages = [{"role": "user", "content": text.prompt}]
        fields = {"request": number, "tokens": text.tokens, "messages": messages}
        body = json.dumps({"model": MODEL, "stream": True, **fields}).encode()
        submitter = self.gateway.submitter
        await submitter.submit(
            await submitter.prepare(f"req_{number}", PATH, payload.read(body), body)
        )
        await ended.wait()
        self.result.answered += 1

    async def _submit_batch(self) -> None:
        """Have more lines wait than the engine can answer in the time."""
        model = await self.registry.model(MODEL)
        assert model is not None
        tokens = TOKENS_SECOND_MAX * (self.trace.seconds + WARM_SECONDS)
        for number in range(2 + round(tokens / (LINES_MAX * LINE_TOKENS))):
            lines = range(number * LINES_MAX, (number + 1) * LINES_MAX)
            await self._submit_shard(number, model.queues["batch"], list(lines))

    async def _submit_shard(self, number: int, queue: str, lines: list[int]) -> None:
        body = b"".join(map(self._input_line, lines))
        key, now_ms = input_key(slug(MODEL), BATCH, number), self.store.now_ms()
        await self.objects.put(key, body)
        task = Task(
            ref=TaskRef(slug(MODEL), f"{BATCH}-{number}"),
            model=MODEL,
            tier="batch",
            tenant="batches",
            path=PATH,
            body_sha256=hashlib.sha256(body).hexdigest(),
            created_ms=now_ms,
            deadline_ms=now_ms + DAY_MS,
            attempt_limit=3,
            ttl=(now_ms + 2 * DAY_MS) // 1000,
            shard=Shard(batch=BATCH, number=number, lines=len(lines)),
        )
        await self.store.submit(task)
        await self.queue.send(queue, Message(ref=task.ref, body_key=key), task.tenant)

    def _input_line(self, number: int) -> bytes:
        text = self.trace.line(number)
        messages = [{"role": "user", "content": text.prompt}]
        body = {"model": MODEL, "line": number, "tokens": text.tokens, "messages": messages}
        line = {"custom_id": f"{number}", "method": "POST", "url": PATH, "body": body}
        return json.dumps(line).encode() + b"\n"


def simulate(trace: Trace, *, seed: int, with_batch: bool) -> Measured:
    """Return how a trace fares on the line, the same each time."""
    with virtual_time.seeded(seed):
        return virtual_time.run(_simulate(trace, seed, with_batch))


async def _simulate(trace: Trace, seed: int, with_batch: bool) -> Measured:
    return await World(trace, seed=seed, with_batch=with_batch).run()
