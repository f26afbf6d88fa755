"""Every process of a line is restarted under load, one after the other: no request notices."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from inferline.streams.sse import EventParser, is_done
from tests.support import answers
from tests.support.answers import Asked, Json
from tests.support.line import MODEL, Line, Part, empty_line, get_json, running_line, until

PATH = "/v1/chat/completions"
CLIENTS = 8
#: Less than requests take that are long.
DRAIN_SECONDS = "0.3"
SHORT = {"first": 0.05, "interval": 0.01, "tokens": 8}
LONG = {"first": 0.05, "interval": 0.05, "tokens": 40}
TRIES_MAX = 200


@dataclass(slots=True)
class Heard:
    """Part of one answer that a client has."""

    task: str = ""
    events: int = 0
    text: str = ""
    finishes: int = 0
    #: Whether the last try got the beginning of an answer.
    flows: bool = False
    done: bool = False
    ids: set[str] = field(default_factory=set)

    def take(self, document: Json) -> None:
        """Add an event of a stream, or a whole answer."""
        self.ids.add(document["id"])
        for choice in document["choices"]:
            said = choice.get("delta") or choice.get("message") or {}
            self.text += said.get("content") or ""
            self.finishes += bool(choice["finish_reason"])


class HandedOn(Exception):  # it is no error
    """The gateway stops and says so."""


class Client:
    """Asks again and again, at any of the gateways, as through a load balancer."""

    def __init__(self, urls: Sequence[str], name: str) -> None:
        self._urls = urls
        self._rng = random.Random(name)
        self._name = name
        self._http = httpx.Client(timeout=60)
        #: What it asked, by the name of each request, and what it got.
        self.asked: dict[str, Json] = {}
        self.heard: dict[str, Heard] = {}
        #: Why it had to come back, and everything else that was wrong.
        self.returns: Counter[str] = Counter()
        self.wrongs: list[str] = []

    def run(self, enough: threading.Event) -> None:
        """Ask until it is enough."""
        with self._http:
            for number in itertools.count():
                if enough.is_set():
                    return
                self._ask(f"{self._name}-{number}", number)

    def _ask(self, user: str, number: int) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hi"}],
            "user": user,
            "stream": number % 2 == 0,
            "x_script": LONG if number % 4 < 2 else SHORT,
        }
        self.asked[user] = body
        heard = self.heard[user] = Heard()
        for _ in range(TRIES_MAX):
            try:
                self._try(self._rng.choice(self._urls), body, heard)
                return
            except HandedOn:
                self.returns["handed on"] += 1
            except httpx.ConnectError:
                self.returns["nobody there"] += 1
                time.sleep(0.05)
            except httpx.TransportError as error:
                # A connection that was kept open, and closed as the request was on its way.
                self.returns[f"closed: {type(error).__name__}"] += 1
                if heard.flows:
                    self.wrongs.append(f"{user}: an answer broke off: {error!r}")
        self.wrongs.append(f"{user}: no end")

    def _try(self, url: str, body: Json, heard: Heard) -> None:
        """Ask, or go on with the stream that has begun."""
        heard.flows = False
        with self._sent(url, body, heard) as response:
            heard.flows = True
            if response.status_code != 200:
                self._refused(body["user"], response)
            heard.task = response.headers["x-request-id"]
            if not body["stream"]:
                heard.take(json.loads(response.read()))
                heard.done = True
                return
            parser = EventParser()
            for data in response.iter_raw():
                for event in parser.feed(data):
                    heard.done = is_done(event)
                    self._event(b"{}" if heard.done else event.data, heard)
        if not heard.done:
            self.wrongs.append(f"{body['user']}: a truncated stream that looks complete")

    @contextmanager
    def _sent(self, url: str, body: Json, heard: Heard) -> Iterator[httpx.Response]:
        if heard.events:
            address = f"{url}/v1/tasks/{heard.task}/stream?after={heard.events}"
            sent = self._http.stream("GET", address)
        else:
            headers = {"idempotency-key": body["user"]}
            sent = self._http.stream("POST", url + PATH, json=body, headers=headers)
        with sent as response:
            yield response

    def _event(self, data: bytes, heard: Heard) -> None:
        document = json.loads(data)
        if error := document.get("error"):
            self._refuse(heard.task, error)
        heard.events += 1
        if document:
            heard.take(document)

    def _refused(self, user: str, response: httpx.Response) -> None:
        self._refuse(user, json.loads(response.read())["error"])

    def _refuse(self, what: str, error: Json) -> None:
        """Raise HandedOn for the one error that a client may get."""
        if error["code"] != "gateway_stopping":
            self.wrongs.append(f"{what}: {error}")
        raise HandedOn


class Fleet:
    """Two gateways, and two providers with an LLM server each."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._parts: dict[str, Part] = {}
        self.urls: dict[str, str] = {}
        self.backends: dict[str, str] = {}
        for name in ("g1", "g2"):
            self._parts[name] = line.start_gateway()
            self.urls[name] = line.url
        for name in ("p1", "p2"):
            self.backends[name] = line.start_backend()
            self._parts[name] = line.start_provider(name, self.backends[name])

    def restart(self, name: str, **environ: str) -> None:
        """Ask one to end, wait until it has, and begin it anew."""
        part, line = self._parts[name], self._line
        assert 0 == part.stop()
        assert "unforeseen" not in part.log, part.log[-3000:]
        assert "failed unexpectedly" not in part.log, part.log[-3000:]
        assert "Traceback" not in part.log, part.log[-3000:]
        if name in self.urls:
            port = int(self.urls[name].rpartition(":")[2])
            self._parts[name] = line.start_gateway(port=port, **environ)
        else:
            assert "handed_back_all=True" in part.log, part.log[-3000:]
            self._parts[name] = line.start_provider(name, self.backends[name])

    def begun(self) -> Counter[str]:
        """Return how often each request was put to an LLM server from its start."""
        bodies = [
            json.loads(body)
            for url in self.backends.values()
            for body in get_json(f"{url}/_script/bodies")
        ]
        return Counter(
            body["user"] for body in bodies if body["messages"][-1]["role"] != "assistant"
        )

    @property
    def busy(self) -> bool:
        """Return whether anything waits in a queue or runs at an LLM server."""
        stats = get_json(f"{self.urls['g1']}/v1/queue/stats")["data"]
        left = sum(queue["waiting"] + queue["running"] for queue in stats)
        states = [self._line.backend_state(url) for url in self.backends.values()]
        return bool(left or any(state["running"] for state in states))


def expected(body: Json) -> str:
    """Return the whole text of an answer."""
    said = answers.chat(Asked(body, body["x_script"]["tokens"], emoji=False)).whole
    return str(said["choices"][0]["message"]["content"])


@contextmanager
def load(urls: Sequence[str]) -> Iterator[list[Client]]:
    """Yield clients that ask until the block ends, and that have their last answers then."""
    enough = threading.Event()
    clients = [Client(urls, f"c{at}") for at in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(enough,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def returns(clients: Sequence[Client]) -> Counter[str]:
    return sum((client.returns for client in clients), Counter())


def test_every_process_is_restarted_under_load_and_nothing_is_lost_or_made_twice() -> None:
    """
    Twice around: the first time all that is under way has time to end. Of the gateways that are
    started then each hands its clients on when it is restarted in its turn.
    """
    with empty_line() as line:
        fleet = Fleet(line)
        with load(list(fleet.urls.values())) as clients:
            for name in ("g1", "p1", "g2", "p2"):
                environ = {"INFERLINE_DRAIN_SECONDS": DRAIN_SECONDS} if name in fleet.urls else {}
                fleet.restart(name, **environ)
            assert 0 == returns(clients)["handed on"]
            for name in ("g1", "p1", "g2", "p2"):
                fleet.restart(name)
            handed_on = returns(clients)["handed on"]
        until(lambda: not fleet.busy, "nothing is left")

        assert [] == [wrong for client in clients for wrong in client.wrongs]
        assert 1 <= handed_on
        asked = {user: body for client in clients for user, body in client.asked.items()}
        heard = {user: one for client in clients for user, one in client.heard.items()}
        assert len(asked) > 8 * CLIENTS
        for user, body in asked.items():
            answers = heard[user]
            assert (expected(body), 1, 1, True) == (
                answers.text,
                answers.finishes,
                len(answers.ids),
                answers.done,
            ), user
        assert Counter(dict.fromkeys(asked, 1)) == fleet.begun()


def test_a_gateway_that_is_asked_twice_hands_on_at_once_and_waits_for_no_idle_connection() -> None:
    body = {"model": MODEL, "messages": [], "x_script": {"first": 3.0}}
    key = {"idempotency-key": "asked-once"}
    with running_line() as line, httpx.Client(timeout=60) as idle:
        gateway = next(part for part in line.parts if part.name == "gateway")
        assert 200 == idle.get(f"{line.url}/health").status_code
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, line.url + PATH, json=body, headers=key, timeout=60)
            until(lambda: line.backend_state()["running"], "it runs")
            gateway.process.terminate()
            time.sleep(0.3)  # Two signals at once would be one.
            assert 0 == gateway.stop(5)
            first = asked.result()

        assert (503, "gateway_stopping") == (first.status_code, first.json()["error"]["code"])
        line.start_gateway(port=int(line.url.rpartition(":")[2]))
        second = httpx.post(line.url + PATH, json=body, headers=key, timeout=60)
        assert 200 == second.status_code
        assert first.headers["x-request-id"] == second.headers["x-request-id"]
        assert 1 == line.backend_state()["calls"]
