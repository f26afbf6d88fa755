"""The line as a whole: streaming is real, a lost client and a lost provider cost little."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.line import MODEL, Line, get_json, running_line, until
from tests.support.pace import within

PATH = "/v1/chat/completions"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
SLOW = {"first": 0.05, "interval": 1.0, "tokens": 600}


def ask(line: Line, **body: Any) -> httpx.Response:
    return httpx.post(line.url + PATH, json={**CHAT, **body}, timeout=90)


def asked(line: Line, body: dict[str, Any]) -> http.client.HTTPConnection:
    """Ask, and wait for nothing."""
    client = http.client.HTTPConnection(line.url.removeprefix("http://"), timeout=60)
    client.request("POST", PATH, json.dumps(body), {"content-type": "application/json"})
    return client


def leave_early(line: Line, body: dict[str, Any]) -> None:
    """Ask, wait until the backend is at it, and hang up."""
    client = asked(line, body)
    until(lambda: line.backend_state()["running"], "the backend is at it")
    client.close()


def waiting(line: Line) -> int:
    """Count the tasks that wait."""
    return sum(queue["waiting"] for queue in get_json(f"{line.url}/v1/queue/stats")["data"])


def test_a_stream_is_delivered_while_the_backend_still_talks(line: Line) -> None:
    """
    A token each 50 ms must not arrive in one piece, nor in a few.

    Forty tokens take two seconds. If the stream were buffered, the first bytes would come when the
    last do; here at least half of the backend's time must lie between them, in many pieces.
    """
    script = {"first": 0.05, "interval": 0.05, "tokens": 40}
    body = {**CHAT, "stream": True, "x_script": script}
    with httpx.stream("POST", line.url + PATH, json=body, timeout=60) as response:
        arrivals = [time.monotonic() for _ in response.iter_raw()]

    assert len(arrivals) >= 15
    assert arrivals[-1] - arrivals[0] > 0.05 * 40 / 2


@pytest.mark.serial
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_backends_slot_within_a_second(
    line: Line, stream: bool
) -> None:
    assert 0 == line.backend_state()["running"]
    leave_early(line, {**CHAT, "stream": stream, "x_script": {**SLOW, "hang": not stream}})

    left = time.monotonic()
    until(lambda: not line.backend_state()["running"], "the slot is free")
    assert time.monotonic() - left < within(1.0)


def test_a_client_that_leaves_the_queue_is_never_served() -> None:
    with running_line(slots=1, INFERLINE_OVERVIEW_SECONDS="0.1") as line:
        before = line.backend_state()["calls"]
        busy = asked(line, {**CHAT, "x_script": {"hang": True}})
        until(lambda: line.backend_state()["running"], "the slot is taken")
        second = asked(line, CHAT)
        until(lambda: waiting(line), "it waits")
        second.close()
        until(lambda: not waiting(line), "it does not wait any more")
        busy.close()

        assert 200 == ask(line).status_code
        assert before + 2 == line.backend_state()["calls"]


def test_more_requests_than_slots_are_all_answered_and_never_more_run(line: Line) -> None:
    script = {"tokens": 5, "interval": 0.01}
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda n: ask(line, seed=n, x_script=script), range(48)))

    assert {200} == {answer.status_code for answer in answers}
    assert line.backend_state()["running_max"] <= 4


def test_a_killed_provider_is_replaced_and_nobody_notices_but_by_the_wait() -> None:
    with running_line(INFERLINE_LEASE_SECONDS="3", INFERLINE_SILENT_SECONDS="60") as line:
        first = line.parts[-1]
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(ask, line, x_script={"first": 1.5, "interval": 0.01})
            until(lambda: line.backend_state()["running"], "the first provider serves it")
            first.kill()
            line.start_provider("p2")
            answer = answering.result()

        assert (200, "2", "p2") == (
            answer.status_code,
            answer.headers["x-inferline-attempt"],
            answer.headers["x-inferline-provider"],
        )
        assert 200 == ask(line).status_code


def test_a_stopped_provider_finishes_its_work_leaves_and_ends_cleanly() -> None:
    with running_line() as line:
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(ask, line, x_script={"first": 1.0})
            until(lambda: line.backend_state()["running"], "it runs")

            assert 0 == line.parts[-1].stop()

            assert 200 == answering.result().status_code
        assert {} == line.providers()
        assert 1 == line.backend_state()["calls"]


def test_what_a_stopped_provider_cannot_finish_goes_to_another() -> None:
    with running_line(INFERLINE_LEASE_SECONDS="5") as line:
        first = line.parts[-1]
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(ask, line, x_script={"first": 3.0})
            until(lambda: line.backend_state()["running"], "it runs")
            first.process.terminate()
            first.process.terminate()
            time.sleep(0.1)
            first.process.terminate()
            line.start_provider("p2")

            answer = answering.result()

        assert (200, "p2") == (answer.status_code, answer.headers["x-inferline-provider"])
        assert 0 == first.process.wait(60)


def test_a_gateway_that_restarts_loses_no_model_and_no_provider() -> None:
    with running_line() as line:
        gateway = next(part for part in line.parts if part.name == "gateway")
        port = line.url.rpartition(":")[2]
        gateway.stop()

        line.start("gateway", "inferline", "gateway", "--port", port)

        until(lambda: line.providers(), "the gateway is back")
        assert 200 == ask(line).status_code


def test_two_gateways_serve_one_line() -> None:
    with running_line() as line:
        first = line.url
        line.start_gateway()

        urls = [first, line.url]
        answers = [httpx.post(url + PATH, json=CHAT, timeout=60) for url in urls * 3]

        assert {200} == {answer.status_code for answer in answers}
