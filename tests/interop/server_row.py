"""Puts one LLM server behind a real provider, and finds the cells of its row."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.interop import batch_cell
from tests.interop.asking import Asking, Stream, seconds_since
from tests.interop.cells import Cell, check, end_all, tried, yes
from tests.interop.environments import Places, Unavailable
from tests.interop.servers import Server, prepare
from tests.support.emulators import free_port
from tests.support.line import Line, empty_line, until

COLUMNS = ("list", "plain", "stream", "tools", "error", "cancel", "batch", "continuation")
#: A provider that is killed is missed after this long.
LEASE_SECONDS = 3
#: A backend whose client has gone is idle within this long.
IDLE_SECONDS_MAX = 5.0
#: After somebody's wrong request another one is answered within its own time and this long.
HARM_SECONDS_MAX = 2.0
LONG = "Tell me a long story about a conveyor belt."
#: How many tokens the answer that is broken in its middle has, and after how many events.
LONG_TOKENS, BROKEN_AFTER = 120, 20
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
NAMED_TOOL = {"type": "function", "function": {"name": "get_weather"}}


def row(server: Server, places: Places) -> dict[str, Cell]:
    """Return the cells of one server. Raises Unavailable where it can't be installed or started."""
    prepare(server, places)
    with ExitStack() as stack:
        url = stack.enter_context(started(server, places))
        line = stack.enter_context(empty_line())
        line.start_gateway(INFERLINE_LEASE_SECONDS=str(LEASE_SECONDS))
        trial = Trial(line, server, url)
        enrolled = tried(trial.enrol, 60)
        if enrolled.verdict != "yes":
            print(f"    list: {enrolled.verdict} {enrolled.note}", flush=True)
            return {"list": enrolled}
        cells = {}
        for name in COLUMNS:
            cells[name] = tried(trial.cell(name))
            print(f"    {name}: {cells[name].verdict} {cells[name].note}", flush=True)
        return cells


@contextmanager
def started(server: Server, places: Places) -> Iterator[str]:
    """Run the server until the block ends; gives its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command, more = server.start(places, port)
    places.logs.mkdir(parents=True, exist_ok=True)
    log_path = places.logs / f"{server.name.replace(' ', '-')}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            ["nice", *command],
            cwd=places.logs,
            env=places.environ(**more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(server, process, url, log_path.read_text)
        yield url
    finally:
        end_all(process, 30)


def _wait(
    server: Server, process: subprocess.Popen[bytes], url: str, log: Callable[..., str]
) -> None:
    limit = time.monotonic() + server.start_seconds_max
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise Unavailable(f"it ends at its start: {log(errors='replace')[-300:]}")
        try:
            if httpx.get(url + server.ready, timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise Unavailable(f"it is not up after {server.start_seconds_max:.0f} s")


@dataclass
class Trial:
    """One server behind one provider, and what is asked of both."""

    line: Line
    server: Server
    direct_url: str

    @property
    def direct(self) -> Asking:
        """Return the server itself."""
        return Asking(self.direct_url, self.server.model)

    @property
    def through(self) -> Asking:
        """Return the same server behind the gateway."""
        return Asking(self.line.url, self.server.model)

    def cell(self, name: str) -> Callable[[], Cell]:
        """Return what finds the cell of a column."""
        if self.server.kind == "embeddings" and name not in ("list", "error"):
            return self.embeddings if name == "plain" else lambda: Cell("n/a")
        finding: Callable[[], Cell] = getattr(self, {"list": "listed"}.get(name, name))
        return finding

    def enrol(self) -> Cell:
        """Start a provider; it has to enrol and its model to be listed."""
        flags = ("--slots", "2", *self.server.provider)
        self.line.start_provider("p1", self.direct_url, *flags)
        until(lambda: self._listed(), f"{self.server.model} is listed", 20)
        return yes()

    def _listed(self) -> dict[str, Any] | None:
        data = httpx.get(f"{self.line.url}/v1/models", timeout=10).json()["data"]
        return next((model for model in data if model["id"] == self.server.model), None)

    def listed(self) -> Cell:
        model = self._listed()
        check(model, "its model is not listed")
        length = (model or {}).get("max_model_len") or (model or {}).get("context_length")
        return yes(f"context {length}" if length else "")

    def plain(self) -> Cell:
        expected = self.direct.say("Who carries the tasks?")
        text = self.through.say("Who carries the tasks?")
        check(text, "an empty answer")
        check(text == expected, f"{text!r} instead of {expected!r}")
        return yes("the same words as from the server itself")

    def embeddings(self) -> Cell:
        body = {"model": self.server.model, "input": ["the belt", "a host"]}
        expected = self.direct.post("/embeddings", body).json()
        answer = self.through.post("/v1/embeddings", body)
        check(answer.is_success, f"{answer.status_code}: {answer.text[:200]}")
        check(answer.json()["data"] == expected["data"], "other vectors than from the server")
        return yes("embeddings: the same vectors as from the server itself")

    def stream(self) -> Cell:
        with self.direct.stream("Count to ten.") as expected:
            expected.end()
        with self.through.stream("Count to ten.") as seen:
            seen.end()
        check(seen.text, "an empty answer")
        check(seen.text == expected.text, f"{seen.text!r} instead of {expected.text!r}")
        check(seen.finish == expected.finish, f"ends with {seen.finish}, not {expected.finish}")
        ends = "" if expected.done else "; the server sends no [DONE]"
        return yes(_compared(seen.comparable(), expected.comparable()) + ends)

    def tools(self) -> Cell:
        """Return the answer to a request with a tool is the server's own, whichever that is."""
        body = self.direct.chat(
            "The weather in Oslo?", tools=[TOOL], tool_choice=NAMED_TOOL, max_tokens=80
        )
        expected = self.direct.post("/v1/chat/completions", body)
        answer = self.through.post("/v1/chat/completions", body)
        reason = f"{answer.status_code} instead of {expected.status_code}: {answer.text[:150]}"
        if expected.status_code >= 500:
            check(answer.status_code >= 400, reason)
            return yes(f"the server fails with {expected.status_code}; the client is told")
        check(answer.status_code == expected.status_code, reason)
        if not expected.is_success:
            return yes(f"the server refuses a named tool ({expected.status_code}), word for word")
        theirs, ours = (_message(one) for one in (expected, answer))
        check(_calls(ours) == _calls(theirs), f"calls {_calls(ours)}, not {_calls(theirs)}")
        check(ours.get("content") == theirs.get("content"), "other words than from the server")
        return yes("the same call" if _calls(ours) else "this model answers in words; the same")

    def error(self) -> Cell:
        """
        Send a wrong request: its error has OpenAI's shape, and the next request gets its answer.
        """
        start = time.monotonic()
        self._good()
        usual = time.monotonic() - start
        wrong = {"input": 7} if self.server.kind == "embeddings" else {"max_tokens": "abc"}
        path = "/embeddings" if self.server.kind == "embeddings" else "/v1/chat/completions"
        body = {**self.direct.chat("Hello."), **wrong}
        theirs = self.direct.post(path, body)
        start = time.monotonic()
        answer = self.through.post("/v1" + path.removeprefix("/v1"), body)
        reason = f"the server says {theirs.status_code}, the client gets {answer.status_code}"
        reason += f" in {seconds_since(start)}"
        if theirs.is_success:
            check(answer.is_success, reason)
            return yes(f"{reason} (this server reads max_tokens as it likes)")
        own = theirs.status_code < 500 and answer.content == theirs.content
        shaped = answer.status_code >= 400 and _openai_error(answer)
        check(own or shaped, f"{reason}: {answer.text[:120]}")
        check(theirs.status_code >= 500 or answer.status_code == theirs.status_code, reason)
        start = time.monotonic()
        self._good()
        harm = time.monotonic() - start - usual
        reason += f"; the next request waits {max(0.0, harm):.1f} s longer than before"
        check(harm < HARM_SECONDS_MAX, reason)
        return yes(reason)

    def _good(self) -> None:
        if self.server.kind == "embeddings":
            self.embeddings()
        else:
            self.through.say("Hello.", max_tokens=4)

    def cancel(self) -> Cell:
        with self.through.stream(LONG, max_tokens=1000) as stream:
            stream.until(4)
            check(not stream.finish, "the answer ended before it could be cancelled")
            before = self._connections()
            check(before, "nobody is connected to the server")
        start = time.monotonic()
        while self._busy(before):
            check(time.monotonic() - start < IDLE_SECONDS_MAX, "the server is not told")
            time.sleep(0.05)
        seen = "it counts nothing any more" if self.server.gauge else "its connection is closed"
        return yes(f"{seen} {seconds_since(start)} later")

    def _busy(self, before: set[int]) -> bool:
        if not self.server.gauge:
            # A connection that is closed in the middle of an answer is all that it can be told.
            return self._connections() >= before
        path, name = self.server.gauge
        figures = httpx.get(self.direct_url + path, timeout=10).text
        counts = re.findall(rf"^{name}\b\S* (\S+)$", figures, re.MULTILINE)
        return sum(map(float, counts)) > 0

    def _connections(self) -> set[int]:
        """Return the ports of this machine that are connected to the server."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        server = int(self.direct_url.rpartition(":")[2])
        established = [row[1:3] for row in rows if row[3] == "01"]
        ports = [[int(end.rpartition(":")[2], 16) for end in ends] for ends in established]
        return {local for local, remote in ports if remote == server}

    def batch(self) -> Cell:
        return batch_cell.cell(self.direct_url, self.server.model)

    def continuation(self) -> Cell:
        """Return the provider is killed in mid-stream, with another one there."""
        expected = self.direct.say(LONG, max_tokens=LONG_TOKENS)
        parts = {"p1": next(part for part in self.line.parts if part.name == "provider")}
        flags = ("--slots", "2", *self.server.provider)
        parts["p2"] = self.line.start_provider("p2", self.direct_url, *flags)
        with self.through.stream(LONG, max_tokens=LONG_TOKENS) as stream:
            stream.until(BROKEN_AFTER)
            check(not stream.finish, "the answer ended before its provider could be killed")
            start = time.monotonic()
            parts[stream.response.headers["x-inferline-provider"]].kill()
            stream.end()
        return _continued(stream, expected, seconds_since(start))


def _compared(seen: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    if seen == expected:
        return "the same events"
    if len(seen) != len(expected):
        return f"the same words in {len(seen)} events, not in {len(expected)}"
    fields = {
        name
        for ours, theirs in zip(seen, expected, strict=True)
        for name in {*ours, *theirs}
        if ours.get(name) != theirs.get(name)
    }
    return f"the same words, other {', '.join(sorted(fields))}"


def _continued(stream: Stream, expected: str, took: str) -> Cell:
    if error := stream.error:
        return Cell("told", f"ends with {error.get('code')} {took} after the kill")
    check(stream.finish, "ends without a reason and without an error")
    if stream.text == expected:
        return yes(f"the same words as without the kill, whole {took} after it")
    same = next(
        (
            at
            for at, pair in enumerate(zip(stream.text, expected, strict=False))
            if len({*pair}) > 1
        ),
        min(len(stream.text), len(expected)),
    )
    note = f"goes on to its end; other words from character {same} of {len(expected)}"
    return Cell("partly", note)


def _message(answer: httpx.Response) -> dict[str, Any]:
    message: dict[str, Any] = answer.json()["choices"][0]["message"]
    return message


def _calls(message: dict[str, Any]) -> list[tuple[str, str]]:
    calls = message.get("tool_calls") or []
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def _openai_error(answer: httpx.Response) -> bool:
    try:
        error = answer.json()["error"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return False
    return isinstance(error, dict) and bool(error.get("message"))
