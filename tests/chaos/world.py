"""A whole line as processes, each with its own way to AWS, and what is left of it at the end."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.sqs import SqsQueueMaker, dead_letter_name, queue_name
from inferline.maintenance.sweep import Sweep
from inferline.names import slug
from inferline.options import options_of
from inferline.settings import Settings
from inferline.tasks.task import QUEUE_TIERS, State
from tests.chaos.backend import MODEL
from tests.chaos.faults import InjectingProxy
from tests.chaos.pieces import Piece, skewed, until
from tests.support.emulators import free_port
from tests.support.line import Line, empty_line

#: Short, so that what a killed provider held is another's within seconds.
SETTINGS = Settings(
    lease_seconds=3,
    enrol_seconds=1,
    silent_seconds=5,
    registry_seconds=0.3,
    no_provider_seconds=8,
    drain_seconds=1,
    reader_seconds=2,
    unread_task_seconds=6,  # longer than a gateway is ever stopped
    request_seconds_max=20,
    first_byte_seconds_max=6,
    gap_seconds_max=3,
    flush_seconds=0.05,
    first_byte_wait_seconds=2,
    ping_seconds=1,
    inline_bytes_max=8192,
    task_seconds_kept=600,
)
SLOTS = 6
#: How long running tasks may go on at a provider that was asked to end.
DRAIN_SECONDS = 3


#: How often a process is begun that ends by itself.
STARTS_MAX = 3


class EndedByItself(Exception):
    """A process did not come up; the message has its log's end."""


def environ_of(settings: Settings) -> dict[str, str]:
    """Return the environment that says what differs from the defaults."""
    return {
        option.variable: f"{value}"
        for option in options_of(Settings)
        if (value := getattr(settings, option.name)) != option.default
    }


@dataclass(slots=True)
class Remains:
    """Remains when all clients have gone."""

    waiting: int
    dead: int
    live: Counter[State]
    running: int

    @property
    def nothing(self) -> bool:
        """Return whether that is nothing."""
        return not (self.waiting or self.dead or self.live or self.running)


@dataclass(slots=True)
class World:
    """The processes of a line. Those whose number is 0 are left alive, to be weighed."""

    line: Line
    http: aiohttp.ClientSession
    aws: AwsClient
    emulator: Piece
    gateways: list[Piece] = field(default_factory=list)
    providers: list[Piece] = field(default_factory=list)
    backends: list[Piece] = field(default_factory=list)
    #: Where each gateway and backend is, by name.
    urls: dict[str, str] = field(default_factory=dict)
    #: How many tasks the sweep had to end.
    swept: int = 0

    @property
    def proxied(self) -> list[Piece]:
        """Return everything that calls AWS."""
        return [*self.gateways, *self.providers]

    @property
    def open_gateways(self) -> list[Piece]:
        """Return gateways that a load balancer would send requests to."""
        return [g for g in self.gateways if g.is_up and not g.is_stopped]

    def find(self, name: str) -> Piece:
        """Return the piece of that name."""
        pieces = [*self.proxied, *self.backends, self.emulator]
        return next(piece for piece in pieces if piece.name == name)

    async def get(self, url: str) -> Any:
        """JSON, or None where nobody answers."""
        try:
            async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=3)) as answer:
                return json.loads(await answer.read() or b"true") if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, ValueError):
            return None

    async def up(self, piece: Piece) -> None:
        """Return once it does its work. Raises EndedByItself or TimeoutError."""
        is_up = asyncio.Event()

        async def look() -> None:
            while not is_up.is_set():
                if await self._works(piece):
                    is_up.set()
                await asyncio.sleep(0.05)

        looking = asyncio.create_task(look())
        try:
            await until(lambda: is_up.is_set() or not piece.is_up, f"{piece.name} is up")
        finally:
            looking.cancel()
        if not is_up.is_set():
            assert piece.part is not None
            raise EndedByItself(f"{piece.name} ended by itself:\n{piece.part.log[-3000:]}")

    async def _works(self, piece: Piece) -> bool:
        if piece in self.providers:
            assert piece.part is not None
            return "Enrolled." in piece.part.log
        return await self.get(f"{self.urls[piece.name]}/health") is not None

    async def restart(self, piece: Piece) -> None:
        """
        Begin it anew, and return once it is up.

        One that ends by itself is begun again, as whoever looks after it would: where AWS does not
        answer there is nothing to begin with.
        """
        for _ in range(STARTS_MAX - 1):
            piece.start()
            with suppress(EndedByItself):
                await self.up(piece)
                return
        piece.start()
        await self.up(piece)

    def tally(self) -> int:
        """Return how many tokens all backends have made."""
        return sum(path.stat().st_size for path in self.line.folder.glob("*.tally"))

    async def sweep(self) -> None:
        """Do what the function of that name does each minute."""
        registry = DynamoRegistry(self.aws, SETTINGS.registry_table, SETTINGS.silent_seconds)
        store = DynamoTaskStore(self.aws, SETTINGS.tasks_table)
        maker = SqsQueueMaker(self.aws, SETTINGS)
        before = len(await store.live(slug(MODEL), 100_000))
        await Sweep(store=store, registry=registry, queue_maker=maker).run()
        self.swept += before - len(await store.live(slug(MODEL), 100_000))

    async def remains(self) -> Remains:
        """Return what is in the queues and tables, and at the backends."""
        queues = [queue_name(SETTINGS.stack, MODEL, tier) for tier in QUEUE_TIERS]
        counts = [await self._messages(name) for name in queues]
        store = DynamoTaskStore(self.aws, SETTINGS.tasks_table)
        refs = [ref for ref, _ in await store.live(slug(MODEL), 100_000)]
        states = Counter(one.state for one in (await store.statuses(refs)).values())
        backends = [await self.get(f"{self.urls[b.name]}/_script/state") for b in self.backends]
        running = sum(state["running"] for state in backends if state)
        dead = await self._messages(dead_letter_name(SETTINGS.stack))
        return Remains(sum(counts), dead, states, running)

    async def _messages(self, name: str) -> int:
        queue = await self.aws.call("sqs", "GetQueueUrl", {"QueueName": name})
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        request = {"QueueUrl": queue["QueueUrl"], "AttributeNames": names}
        answer = await self.aws.call("sqs", "GetQueueAttributes", request)
        return sum(int(answer["Attributes"][name]) for name in names)

    async def emptied(self, seconds: float) -> Remains:
        """Return what is left, as soon as that is nothing, else after ``seconds``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            await self.sweep()
            remains = await self.remains()
            if remains.nothing or loop.time() > end:
                return remains
            await asyncio.sleep(0.3)


@asynccontextmanager
async def running_world(
    rng: random.Random,
    *,
    gateways: int = 2,
    providers: int = 3,
    settings: Settings = SETTINGS,
    skews: Sequence[int] = (0,),
    logs: Path | None = None,
) -> AsyncIterator[World]:
    """
    Yield a line of so many processes. ``skews`` are by how many seconds the clocks of the gateways
    and providers are wrong, in turn; ``logs`` is where the logs of all processes go in the end.
    """
    with empty_line() as line, _kept(line, logs):
        # A process that hangs is made to tell where.
        line.environ |= {**environ_of(settings), "PYTHONFAULTHANDLER": "1"}
        async with AsyncExitStack() as stack:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            timeout = aiohttp.ClientTimeout(total=None)
            http = await stack.enter_async_context(
                aiohttp.ClientSession(connector=connector, timeout=timeout)
            )
            aws = await stack.enter_async_context(AwsClient(settings.region, line.emulator_url))
            emulator = Piece(line, "emulator", (), {}, part=line.parts[0])
            world = World(line, http, aws, emulator)
            await _add(world, stack, rng, gateways, providers, skews)
            stack.callback(_end, world)
            yield world


@contextmanager
def _kept(line: Line, logs: Path | None) -> Iterator[None]:
    try:
        yield
    finally:
        if logs is not None:
            shutil.copytree(line.folder, logs, dirs_exist_ok=True)


def _end(world: World) -> None:
    """End all that calls AWS before its way there ends; a stopped process would not end at all."""
    for piece in world.proxied:
        if piece.is_up:
            piece.kill()
    for piece in [*world.backends, world.emulator]:
        if piece.is_stopped:
            piece.go_on()


async def _add(
    world: World,
    stack: AsyncExitStack,
    rng: random.Random,
    gateways: int,
    providers: int,
    skews: Sequence[int],
) -> None:
    async def proxied(name: str, command: Sequence[str], skew: int) -> Piece:
        proxy = InjectingProxy(world.line.emulator_url, random.Random(rng.random()))
        url = await stack.enter_async_context(proxy.serving())
        environ = {"AWS_ENDPOINT_URL": url, **(skewed(skew) if skew else {})}
        return Piece(world.line, name, tuple(command), environ, proxy)

    for number in range(gateways):
        command = _gateway(world, f"g{number}")
        piece = await proxied(f"g{number}", command, skews[number % len(skews)])
        world.gateways.append(piece)
    for number in range(providers):
        world.backends.append(_backend(world, number))
        command = _provider(world, number)
        piece = await proxied(f"p{number}", command, skews[(number + 1) % len(skews)])
        world.providers.append(piece)
    await asyncio.gather(*map(world.restart, [*world.gateways, *world.backends]))
    await asyncio.gather(*map(world.restart, world.providers))


def _gateway(world: World, name: str) -> list[str]:
    port = free_port()
    world.urls[name] = f"http://127.0.0.1:{port}"
    return ["inferline", "gateway", "--port", str(port)]


def _backend(world: World, number: int) -> Piece:
    port, name = free_port(), f"b{number}"
    world.urls[name] = f"http://127.0.0.1:{port}"
    tally = str(Path(world.line.folder) / f"{name}.tally")
    command = ("tests.chaos.backend", "--port", str(port), "--name", name, "--tally", tally)
    return Piece(world.line, name, command, {})


def _provider(world: World, number: int) -> list[str]:
    """Return it enrols at the gateway that stays, as at an address that a load balancer keeps."""
    return [
        "inferline_provider",
        *("--base-url", world.urls["g0"], "--backend", world.urls[f"b{number}"]),
        *("--id", f"p{number}", "--slots", str(SLOTS), "--poll-seconds", "2"),
        *("--drain-seconds", str(DRAIN_SECONDS)),
    ]
