"""Two providers serve one model, and the LLM server of one misbehaves: clients notice little."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from inferline.streams.sse import EventParser, is_done
from inferline_provider.backend.breaker import STRIKES_MAX
from tests.support import answers
from tests.support.answers import Asked
from tests.support.line import MODEL, Line, empty_line, get_json, until

CHATS = "/v1/chat/completions"
TOKENS = 60
#: Tenths of what an operator would set, as all that waits here is.
LIMITS = {
    "INFERLINE_LEASE_SECONDS": "5",
    "INFERLINE_FIRST_BYTE_SECONDS_MAX": "2",
    "INFERLINE_GAP_SECONDS_MAX": "1.5",
}
_numbers = count()


class Pair:
    """A line with two providers, each beside an LLM server of its own; that of `bad` misbehaves."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.asked = 0
        self._options = ("--first-token-seconds", "0.02", "--tokens-per-second", "400")
        self.bad = line.start_backend(*self._options)
        self.bad_part = line.parts[-1]
        self.good = line.start_backend(*self._options)
        self.bad_provider = line.start_provider("bad", self.bad)
        line.start_provider("good", self.good)

    def script(self, url: str, **fields: Any) -> None:
        httpx.post(f"{url}/_script/default", json=fields, timeout=60).raise_for_status()

    def calls(self, url: str) -> int:
        state = self.line.backend_state(url) or {"calls_by_path": {}}
        return int(state["calls_by_path"].get(CHATS, 0))

    def counted(self) -> tuple[int, int]:
        """Return how many requests the gateway has counted, and tokens of their answers."""
        hour = get_json(f"{self.line.url}/v1/overview")["hour"]["total"]
        return int(hour["requests"]), int(hour["output_tokens"])

    def post(self, asked: dict[str, Any]) -> httpx.Response:
        self.asked += 1
        return httpx.post(self.line.url + CHATS, json=asked, timeout=60)

    def ask(self, **body: Any) -> httpx.Response:
        """Return one request that nobody has made before; fails unless its answer is whole."""
        asked = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"Say {next(_numbers)}"}],
            "x_script": {"tokens": TOKENS},
            **body,
        }
        response = self.post(asked)
        assert 200 == response.status_code, response.text
        expected = answers.chat(Asked(asked, TOKENS, False)).whole
        expected_text = expected["choices"][0]["message"]["content"]
        if not asked.get("stream"):
            assert expected_text == response.json()["choices"][0]["message"]["content"]
            return response
        events = EventParser().feed(response.content)
        assert is_done(events[-1])
        choices = [c for event in events[:-1] for c in json.loads(event.data).get("choices", [])]
        assert expected_text == "".join(c["delta"].get("content") or "" for c in choices)
        assert ["stop"] == [c["finish_reason"] for c in choices if c["finish_reason"]]
        return response

    def ask_until_met(self, **body: Any) -> httpx.Response:
        """Ask until the bad server was asked; every answer is whole."""
        before = self.calls(self.bad)
        for _ in range(30):
            response = self.ask(**body)
            if self.calls(self.bad) > before:
                return response
        pytest.fail("the bad server was never asked")


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with empty_line() as line:
        line.start_gateway(**LIMITS)
        yield Pair(line)


@pytest.fixture
def pair(both: Pair) -> Iterator[Pair]:
    """Check that both servers are well before and after, and both get requests."""
    yield both
    both.script(both.bad)
    both.script(both.good)
    both.ask_until_met()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 429, "retry_after": 1}, id="429 with Retry-After"),
        pytest.param({"status": 429}, id="429"),
        pytest.param({"status": 500, "times": 1}, id="500 once"),
        pytest.param({"abort_after_tokens": 0}, id="reset before the answer"),
        pytest.param({"hang": True}, id="no answer at all"),
        pytest.param({"hang": True, "stall_seconds": 4}, id="first token beyond the limit"),
    ],
)
def test_what_fails_before_the_answer_began_is_not_seen(
    pair: Pair, fault: dict[str, Any], stream: bool
) -> None:
    pair.script(pair.bad, **fault)

    pair.ask_until_met(stream=stream)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"eof_after_tokens": 40}, id="cut after 40 of 60 tokens"),
        pytest.param({"abort_after_tokens": 40}, id="reset after 40 of 60 tokens"),
        pytest.param({"stall_after_tokens": 20, "stall_seconds": 4}, id="stall after 20 tokens"),
        pytest.param({"malformed_event": True}, id="a malformed event"),
        pytest.param({"error_event_after": 30}, id="an error in the middle"),
        pytest.param({"no_done": True}, id="no [DONE]"),
        pytest.param({"done_after_tokens": 40}, id="[DONE] after 40 of 60 tokens"),
        pytest.param({"done_after_tokens": 40, "empty_reasons": True}, id="and empty reasons"),
    ],
)
def test_what_fails_in_the_middle_goes_on_as_one_answer(pair: Pair, fault: dict[str, Any]) -> None:
    pair.script(pair.bad, **fault, interval=0.01)

    if "no_done" not in fault:
        pair.ask_until_met(stream=True)
        return
    with pytest.raises(AssertionError):  # A whole answer all the same, passed on as it is.
        pair.ask_until_met(stream=True)


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_filter"])
def test_a_refusal_is_told_at_once_and_never_tried_again(pair: Pair, code: str) -> None:
    refusal = {"error": {"message": "no", "type": "invalid_request_error", "code": code}}
    for url in (pair.bad, pair.good):
        pair.script(url, status=400, body=refusal)
    before = pair.calls(pair.bad) + pair.calls(pair.good)

    asked = {"model": MODEL, "messages": [], "stream": True}
    response = pair.post(asked)

    assert (400, refusal) == (response.status_code, response.json())
    assert before + 1 == pair.calls(pair.bad) + pair.calls(pair.good)


def test_a_server_that_refuses_for_ever_is_hardly_asked_and_hides_no_request(pair: Pair) -> None:
    pair.script(pair.bad, status=503)
    before = len(pair.line.backend_state(pair.bad)["called_at"])
    end = time.monotonic() + 8
    while time.monotonic() < end:
        pair.ask()

    asked = pair.line.backend_state(pair.bad)["called_at"][before:]
    assert asked
    # As many as it takes to know that it is the server, then after 0.5 s, 1 s and each 2 s; one
    # more for a call that came late on a busy machine.
    assert STRIKES_MAX + 3 + (asked[-1] - asked[0]) / 2 >= len(asked)


def test_a_continuation_that_one_server_refuses_goes_to_another(pair: Pair) -> None:
    pair.script(pair.bad, eof_after_tokens=40, times=1, interval=0.01)
    pair.script(pair.good, continues=False)

    response = pair.ask_until_met(stream=True)

    assert "bad" == response.headers["x-inferline-provider"]


def test_after_a_failover_the_tokens_of_one_answer_are_counted_once(pair: Pair) -> None:
    pair.script(pair.bad, eof_after_tokens=40, interval=0.01)
    until(lambda: pair.counted()[0] == pair.asked, "all that was asked is counted")
    requests, tokens = pair.counted()

    pair.ask_until_met(stream=True)

    until(lambda: pair.counted()[0] == pair.asked, "what was asked now is counted")
    assert tokens + (pair.asked - requests) * TOKENS == pair.counted()[1]


def test_a_server_that_was_down_is_back_in_service_soon(pair: Pair) -> None:
    port = pair.bad.rpartition(":")[2]
    pair.bad_part.kill()
    end = time.monotonic() + 6
    while time.monotonic() < end:
        pair.ask()

    options = ("--port", port, "--first-token-seconds", "0.02", "--tokens-per-second", "400")
    pair.bad_part = pair.line.start("backend", "tests.support.backend", *options)

    until(lambda: pair.ask() and pair.calls(pair.bad), "it is asked again")
