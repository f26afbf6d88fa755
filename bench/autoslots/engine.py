"""A scripted LLM engine of which it is known how much it does with how many tasks at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from bench.autoslots.prefixes import PrefixCache

#: The events of a stream: a token, the last one, and the end.
TOKEN, LAST = (
    b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":%s}]}\n\n' % finish
    for finish in (b"null", b'"stop"')
)
DONE = b"data: [DONE]\n\n"
#: The text of a token.
ANSWER = "a"

#: How answers and prompts differ: spread on the logarithmic scale.
LENGTH_SIGMA = 0.7
PROMPT_SIGMA = 0.3


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Speed of an engine with n tasks at once."""

    #: Tokens a second of each of them,
    speed: Callable[[int], float]
    #: and mean seconds that it reads a prompt.
    first: Callable[[int], float] = lambda n: 0.5
    #: More than these wait inside; None: it begins all at once.
    running_max: int | None = None
    #: Mean length of an answer, tokens.
    tokens: float = 30.0
    #: For `Engine.complete`: prompt tokens a second; how many tokens one step has room for; and for
    #: how many tokens there is memory, of which a prefix cache has what the running ones leave.
    prompt_speed: float = 4000.0
    step_tokens: int = 512
    memory_tokens: int = 50_000


def sharing(knee: int, rate: float = 5.0) -> Shape:
    """Return a hard knee: from there on the tasks share what there is."""
    return Shape(speed=lambda n: rate * min(1.0, knee / n))


def queueing(knee: int, rate: float = 5.0, tokens: float = 30.0) -> Shape:
    """Return a hard knee: from there on the tasks wait inside, first come first served."""
    return Shape(speed=lambda n: rate, running_max=knee, tokens=tokens)


def gradual(half: int, most: float, first: float, crowd: int) -> Shape:
    """
    Return as the batch of a GPU: of ``most`` tokens a second, ``half`` tasks at once get the half.

    A prompt takes ``first`` seconds alone, and as much again for each ``crowd`` tasks.
    """
    return Shape(speed=lambda n: most / (n + half), first=lambda n: first * (1 + n / crowd))


def collapsing(knee: int, rate: float = 5.0, power: float = 1.5) -> Shape:
    """
    Return beyond its knee it does less and less, as one that swaps: twice the tasks, 0.7 times.
    """
    return Shape(speed=lambda n: rate * min(1.0, (knee / n) ** power))


@dataclass(slots=True, eq=False)
class Prompt:
    """Text to be completed. Each character counts as one token."""

    text: str
    #: How many of its tokens were cached, and how many have been computed.
    cached: int = 0
    computed: int = 0

    @property
    def left(self) -> int:
        """Return how many tokens are still to be computed."""
        return len(self.text) - self.cached - self.computed


@dataclass(slots=True, eq=False)
class _Stream:
    left: int
    prompt: Prompt = field(default_factory=lambda: Prompt(""))
    made: int = 0
    #: How many are still to come, at each token.
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)


class Engine:
    """
    Gives all that run a token in each step, as continuous batching does.

    How long a request's prompt and answer are depends on its number and the seed alone.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._seed = seed
        self._inside = 0
        self._turns: deque[asyncio.Future[None]] = deque()
        self._streams: list[_Stream] = []
        #: Those whose prompts are being computed, first come first served.
        self._reading: deque[_Stream] = deque()
        self._prefixes = PrefixCache()
        self._stepping: asyncio.Task[None] | None = None
        #: Tokens of each second, and when each first one came and after how long.
        self.made: Counter[int] = Counter()
        self.firsts: list[tuple[float, float]] = []

    @property
    def waiting(self) -> int:
        """Return how many wait inside."""
        return sum(not turn.done() for turn in self._turns)

    def become(self, shape: Shape) -> None:
        """Be another engine from now on, with the same tasks."""
        self._shape = shape
        self._let_in()

    async def answer(self, number: int) -> AsyncIterator[int]:
        """Yield at each token how many are still to come."""
        loop = asyncio.get_running_loop()
        chance = random.Random(f"{self._seed} {number}")
        length = max(1, round(_lognormal(chance, LENGTH_SIGMA) * self._shape.tokens))
        asked_at = loop.time()
        await self._enter()
        stream = _Stream(length)
        try:
            await asyncio.sleep(self._shape.first(self._inside) * _lognormal(chance, PROMPT_SIGMA))
            self._streams.append(stream)
            async for left in self._tokens(stream):
                if left == length - 1:
                    self.firsts.append((loop.time(), loop.time() - asked_at))
                yield left
        finally:
            self._leave(stream)

    async def complete(self, prompt: Prompt, length: int) -> AsyncIterator[int]:
        """
        Yield the same of an answer of so many tokens to a prompt.

        What is not cached of the prompt is computed in the steps of all, and makes them longer.
        """
        await self._enter()
        stream = _Stream(length, prompt)
        prompt.cached = self._prefixes.cached(prompt.text)
        self._reading.append(stream)
        try:
            async for left in self._tokens(stream):
                yield left
        finally:
            if stream in self._reading:
                self._reading.remove(stream)
            self._leave(stream)

    async def _tokens(self, stream: _Stream) -> AsyncIterator[int]:
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step())
        left = stream.left
        while left:
            left = await stream.tokens.get()
            yield left

    def _leave(self, stream: _Stream) -> None:
        """End a stream, whether it has all its tokens or not; its memory is the cache's now."""
        if stream in self._streams:
            self._streams.remove(stream)
        self._keep(stream)
        self._inside -= 1
        self._let_in()

    def _keep(self, stream: _Stream) -> None:
        prompt = stream.prompt
        known = prompt.text[: prompt.cached + prompt.computed]
        # What an answer says is of no account, but that its prompt and it make one prefix.
        running = sum(len(each.prompt.text) + each.made for each in self._streams)
        self._prefixes.keep(known + ANSWER * stream.made, self._shape.memory_tokens - running)

    async def _enter(self) -> None:
        """Return once it is inside."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # It was let in, and left at once.
                self._inside -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        most = self._shape.running_max
        while self._turns and (most is None or self._inside < most):
            turn = self._turns.popleft()
            if not turn.done():  # Else its client has just left.
                self._inside += 1
                turn.set_result(None)

    async def _step(self) -> None:
        loop = asyncio.get_running_loop()
        while self._streams or self._reading:
            computed, ready = self._compute()
            speed = self._shape.speed(max(1, self._inside))
            await asyncio.sleep(1 / speed + computed / self._shape.prompt_speed)
            for stream in ready:
                if stream in self._reading:  # Else its client has left.
                    self._reading.remove(stream)
                    self._streams.append(stream)
                    self._keep(stream)
            self.made[int(loop.time())] += len(self._streams)
            for stream in self._streams:
                stream.left -= 1
                stream.made += 1
                stream.tokens.put_nowait(stream.left)
            self._streams = [stream for stream in self._streams if stream.left]

    def _compute(self) -> tuple[int, list[_Stream]]:
        """Compute prompts as far as one step has room; return how much, and those that are done."""
        room = self._shape.step_tokens - len(self._streams)
        ready, begun_with = [], room
        for stream in self._reading:
            computed = max(0, min(room, stream.prompt.left))
            stream.prompt.computed += computed
            room -= computed
            if stream.prompt.left:
                break
            ready.append(stream)
        return begun_with - room, ready


def _lognormal(chance: random.Random, sigma: float) -> float:
    """Return a number of mean 1."""
    return chance.lognormvariate(-(sigma**2) / 2, sigma)
