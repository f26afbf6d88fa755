"""Everything that may happen to tasks, in any order, and what must hold after each of it."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferline.errors import InferLineError
from inferline.fleet.registry import Model
from inferline.maintenance.sweep import Sweep
from inferline.memory.registry import MemoryRegistry
from inferline.tasks.task import State
from tests.protocol.backend import Backend, Sample
from tests.protocol.loop import LoopClock, SteppedLoop
from tests.protocol.oracle import Book, Heard, Recorder, hold, rows_say
from tests.protocol.parties import SETTINGS, Client, Gateway, Host, Process
from tests.protocol.wire import Call, Fate, Wire
from tests.protocol.worlds import World, Worlds, in_memory

CLIENTS_MAX = 3
HOSTS = ("p1", "p2")
#: A lease and a message's time out of sight both end within it, seconds.
LAPSE_SECONDS = 4.5
HOST_CALLS = tuple(
    ("provider", name)
    for name in (
        *("write_chunks", "finish", "claim", "delete", "hand_back", "renew", "expire", "hide"),
        *("receive", "states", "written", "cancel_unread"),
    )
)
GATEWAY_CALLS = tuple(
    ("gateway", name) for name in ("read", "submit", "send", "cancel", "expire", "attend")
)
READS = ("read", "states")
FATES = (Fate.HELD, Fate.HELD_BACK, Fate.UNHEARD, Fate.LATE, Fate.LOST)
#: What befalls a read instead: it changes nothing, whenever it is made.
READ_FATES = {Fate.UNHEARD: Fate.STALE, Fate.LATE: Fate.GAPPED}
#: How long everything may take to come to rest once nothing befalls it any more, seconds: longer
#: than a request may last, the sweep's patience, and a message's time out of sight.
REST_SECONDS = SETTINGS.request_seconds_max + 15
#: Nothing is swept before so little of that is left, seconds: the others must do without.
SWEEP_SECONDS = 8

hosts = st.sampled_from(range(len(HOSTS)))
#: Which of what is there; the last of few, by turns, when there are many.
which = st.integers(0, 5)


class Protocol(RuleBasedStateMachine):
    """
    A gateway, its clients and two providers, on one store and one queue.

    Calls are made at once unless a fate awaits them. Time passes only when a rule says so.
    """

    worlds: Worlds = staticmethod(in_memory)
    #: In what steps time passes, seconds: each costs the calls of every process that looks at it.
    step = 0.25
    #: What broken variants read, or answer, with instead.
    reader: Any = None
    backend = Backend
    #: What the machine may say of a broken variant, as a pattern.
    notices = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SteppedLoop(self.step)
        self.world: World = self.worlds(self.loop)
        self.book = Book(self.world)
        self.store = Recorder(self.world.store, self.book)
        self.queue = Recorder(self.world.queue, self.book)
        self.late: list[Call] = []
        self.samples: list[Sample] = []
        self.clients: list[Client] = []
        self.gateways = [self._gateway()]
        self.hosts = [self._host(name) for name in HOSTS]
        self.left: list[Host] = []
        self.faults = Faults()
        logging.getLogger("inferline_provider.pull.runner").addHandler(self.faults)

    @initialize(streamed=st.sampled_from([True, True, False]), words=st.integers(0, 1))
    def begin(self, streamed: bool, words: int) -> None:
        """Send a first request."""
        self.ask(streamed, again=False, key="")
        self.serve(0, words)

    # What clients do.

    @precondition(lambda self: len(self._waiting()) < CLIENTS_MAX)
    @rule(
        streamed=st.sampled_from([True, True, False]),
        again=st.booleans(),
        key=st.sampled_from(["", "", "k"]),
    )
    def ask(self, streamed: bool, again: bool, key: str) -> None:
        """Send a request, or repeat one."""
        number = len(self.clients)
        client = Client(self.gateways[-1], number, streamed=streamed, again=again, key=key)
        self.clients.append(client)
        client.gateway.start(client.ask(self.reader))
        self.loop.settle()

    @precondition(lambda self: self._waiting())
    @rule(what=st.sampled_from([*["nothing"] * 6, "client", "client", "gateway"]))
    def leave(self, what: str) -> None:
        """Take a client away, or the gateway; mostly, neither."""
        if what == "client":
            self._waiting()[-1].leave()
            self.loop.settle()
        elif what == "gateway":
            self.gateways[-1].kill()
            self.gateways.append(self._gateway())

    # What providers and their backends do.

    @precondition(lambda self: self.book.messages)
    @rule(at=hosts, words=st.sampled_from([1, 0, 2]))
    def serve(self, at: int, words: int) -> None:
        """Have a provider take a message, and its backend begin to speak."""
        known = len(self.samples)
        self.hosts[at].start(self.hosts[at].receive(self.book.deliveries))
        self.loop.settle()
        for sample in self.samples[known:]:
            for _ in range(words):
                sample.speak()
                self.loop.advance(0.1)
        self.loop.advance(0.25)

    @precondition(lambda self: self.samples)
    @rule(
        at=hosts,
        how=st.sampled_from(["killed", "stopped", "cut off"]),
        lagging=st.booleans(),
        words=st.sampled_from([1, 0, 2]),
        late=st.booleans(),
    )
    def take_over(self, at: int, how: str, lagging: bool, words: int, late: bool) -> None:
        """
        Lose a provider; once its leases have lapsed, the other one serves.

        Its last words may be on their way as it ends, and come then. ``lagging``: to readers,
        nothing has changed.
        """
        host = self.hosts[at]
        if lagging:
            self.gateways[-1].wire.arm("read", Fate.STALE)
        if how == "cut off":
            host.wire.arm("write_chunks", Fate.LATE)
            for sample in host.backend.own:
                sample.speak()
            self.loop.advance(0.06)
        if how == "stopped":
            host.wire.stop()
        else:
            self.crash(at)
        self.loop.advance(LAPSE_SECONDS)
        self.serve(1 - at, words)
        if late:
            self.let_go()

    @precondition(lambda self: self._talking())
    @rule(at=which)
    def speak(self, at: int) -> None:
        """Have a backend say a word more."""
        self._sample(at).speak()
        self.loop.advance(0.3)

    @precondition(lambda self: self._talking())
    @rule(at=which, how=st.sampled_from(["wholly", "wholly", "cut", "broken"]))
    def end(self, at: int, how: str) -> None:
        """End a backend's answer, or its connection."""
        sample = self._sample(at)
        sample.finish() if how == "wholly" else sample.break_off(cleanly=how == "cut")
        self.loop.advance(0.3)

    @rule(at=hosts, status=st.sampled_from([429, 500, 400, 401]))
    def refuse(self, at: int, status: int) -> None:
        """Have a backend refuse the next request that it gets."""
        self.hosts[at].backend.status = status

    # Time, and what befalls providers.

    @rule(seconds=st.sampled_from([0.3, 1.0, LAPSE_SECONDS]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)

    def crash(self, at: int) -> None:
        self.hosts[at].kill()
        self.hosts[at] = self._host(HOSTS[at])

    @rule(at=hosts, how=st.sampled_from(["crash", "stop", "drain"]))
    def lose(self, at: int, how: str) -> None:
        """Kill and restart a provider, stop it for a while, or ask it to leave."""
        if how == "crash":
            self.crash(at)
        elif how == "stop":
            self.hosts[at].wire.stop()
        else:
            self.hosts[at].drain()
            self.left.append(self.hosts[at])
            self.hosts[at] = self._host(HOSTS[at] + "'")
            self.loop.settle()

    @precondition(lambda self: any(host.wire.stopped for host in self.hosts))
    @rule()
    def go_on(self) -> None:
        """Let stopped providers continue."""
        for host in self.hosts:
            host.wire.go_on()
        self.loop.settle()

    # What befalls calls.

    @rule(
        at=hosts,
        call=st.sampled_from(HOST_CALLS) | st.sampled_from(GATEWAY_CALLS),
        fate=st.sampled_from(FATES),
    )
    def befall(self, at: int, call: tuple[str, str], fate: Fate) -> None:
        """Prepare a fault for the next such call of a provider, or of the gateway."""
        of, operation = call
        process = self.hosts[at] if of == "provider" else self.gateways[-1]
        process.wire.arm(operation, READ_FATES.get(fate, fate) if operation in READS else fate)

    @rule()
    def let_go(self) -> None:
        """Release held calls; late ones arrive, and nobody gets their result."""
        for process in self._processes():
            process.wire.release()
        while self.late:
            with suppress(InferLineError):
                self.loop.run_until_complete(self.late.pop(0)())
        self.loop.advance(0.3)
        for process in self._processes():
            process.wire.catch_up()

    # What befalls messages.

    @precondition(lambda self: self.book.messages)
    @rule(at=which, copied=st.booleans())
    def deliver_again(self, at: int, copied: bool) -> None:
        """Deliver a message twice, or before its time."""
        if copied or not self.book.deliveries:
            message = self.book.messages[at % len(self.book.messages)]
            again = self.world.queue.send(self.world.urls["default"], message, "t")
        else:
            delivery = self.book.deliveries[-1 - at % len(self.book.deliveries)]
            again = self.world.queue.change_visibility([delivery], 0)
        self.loop.run_until_complete(again)

    # What must hold.

    @invariant()
    def holds(self) -> None:
        """Check the invariants after each rule. Raises Violation."""
        self.loop.run_until_complete(self.book.look())
        hold(not self.loop.faults, f"a fault of ours: {self.loop.faults}")
        hold(not self.faults.reported, f"an attempt broke: {self.faults.reported}")
        for client in self.clients:
            if client.streamed and client.status == 200:
                Heard.stream(client.body).check(self.samples)

    def teardown(self) -> None:
        """Check the end, unless the example has failed."""
        try:
            if sys.exc_info()[0] is None:
                self._rest()
        finally:
            self._end()

    def _rest(self) -> None:
        """Let everything come to rest, and see what is left. Raises Violation."""
        self.let_go()
        for process in self._processes():
            process.wire.calm()
        for host in self.hosts:
            host.backend.status = 200
        end = self.loop.now + REST_SECONDS
        while self.loop.now < end and not self._at_rest():
            for sample in self.samples:
                sample.finish()
            for at in range(len(HOSTS)):
                self.serve(at, 0)
            self.loop.advance(0.5)
            self.holds()
            if not self._messages() and not self._talking():
                # Only rows without a message are left, if any: they are for the sweep.
                self.loop.skip(end - SWEEP_SECONDS)
                self.loop.run_until_complete(self._sweep().run())
        self.loop.run_until_complete(self.book.look(ended=True))
        hold(all(row.state.terminal for row in self.book.rows.values()), "a task never ended")
        hold(not self._messages(), "messages were left")
        for client in self.clients:
            self._judge(client)

    def _at_rest(self) -> bool:
        rows_ended = all(row.state.terminal for row in self.book.rows.values())
        return rows_ended and not self._waiting() and not self._messages()

    def _messages(self) -> int:
        """Return how many messages there are."""
        url = self.world.urls["default"]
        depth = self.loop.run_until_complete(self.world.queue.depth(url))
        return int(depth.waiting + depth.running)

    def _judge(self, client: Client) -> None:
        """Check that a client got one whole answer, or one error."""
        hold(client.settled, "a client never got its answer")
        if not client.ended or client.task is None:
            return
        row = self.book.rows[client.task.ref]
        if not client.streamed or client.status != 200:
            heard = Heard.whole(client.body)
        else:
            heard = Heard.stream(client.body)
        heard.check(self.samples)
        hold(heard.error or heard.done, f"an answer merely stopped: {client.body!r}")
        if heard.done:
            hold(row.state is State.DONE, f"an answer came of a task that is {row.state}")
        if heard.done and client.streamed:
            said = rows_say(self.book, row.ref, row.attempt, row.tail)
            hold(client.body.replace(b": ping\n\n", b"") == said, "not the bytes that were written")

    def _end(self) -> None:
        logging.getLogger("inferline_provider.pull.runner").removeHandler(self.faults)
        for process in self._processes():
            process.kill()
        self.loop.close()

    def _processes(self) -> list[Process]:
        return [*self.gateways, *self.hosts, *self.left]

    def _waiting(self) -> list[Client]:
        return [client for client in self.clients if not client.settled]

    def _talking(self) -> list[Sample]:
        return [sample for sample in self.samples if not sample.over]

    def _sample(self, at: int) -> Sample:
        talking = self._talking()
        return talking[at % len(talking)]

    def _wire(self) -> Wire:
        return Wire(self.loop, self.late)

    def _gateway(self) -> Gateway:
        return Gateway(self.loop, self._wire(), self.world, self.store, self.queue)

    def _host(self, name: str) -> Host:
        wire = self._wire()
        parts = self.world, self.store, self.queue
        return Host(self.loop, wire, *parts, self.backend(self.samples), name)

    def _sweep(self) -> Sweep:
        registry = MemoryRegistry(LoopClock(self.loop), silent_seconds=1e9)
        models = [Model(id=self.world.model, queues=self.world.urls)]
        self.loop.run_until_complete(registry.put_models(models))
        parts: Any = self.store, self.world.queue
        return Sweep(store=parts[0], registry=registry, queue_maker=parts[1])


class Faults(logging.Handler):
    """A handler that keeps logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reported: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reported.append(self.format(record))
