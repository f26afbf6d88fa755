"""A gateway dies while it streams; its client goes on where it was, and nothing comes twice."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support.line import MODEL, Line, running_line, until

PATH = "/v1/chat/completions"
TOKENS = 60
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "x_script": {"first": 0.05, "interval": 0.1, "tokens": TOKENS},
}


def begin(line: Line, events: int) -> tuple[str, list[str]]:
    """Ask, read the data of so many events, and have the gateway killed: the task, and those."""
    gateway = line.parts[1]
    seen: list[str] = []
    task_id = ""
    try:
        with httpx.stream("POST", line.url + PATH, json=BODY, timeout=60) as response:
            task_id = response.headers["x-request-id"]
            for text in response.iter_lines():
                seen += [text] if text.startswith("data:") else []
                if len(seen) >= events:
                    gateway.kill()
    except httpx.TransportError:
        pass
    return task_id, seen


def restart(line: Line) -> None:
    line.start_gateway(port=int(line.url.rpartition(":")[2]))
    until(line.providers, "the gateway knows the provider")


def rest(line: Line, task_id: str, after: int) -> list[str]:
    url = f"{line.url}/v1/tasks/{task_id}/stream"
    response = httpx.get(url, params={"after": after}, timeout=60)
    assert 200 == response.status_code, response.text
    return [text for text in response.text.split("\n") if text.startswith("data:")]


def task_object(line: Line, task_id: str) -> Any:
    return httpx.get(f"{line.url}/v1/tasks/{task_id}", timeout=60).json()


def test_a_client_goes_on_with_its_stream_after_the_gateway_was_killed() -> None:
    with running_line() as line:
        task_id, seen = begin(line, 5)
        assert 5 <= len(seen) < TOKENS
        restart(line)
        assert "RUNNING" == task_object(line, task_id)["state"]

        whole = seen + rest(line, task_id, len(seen))

        task = task_object(line, task_id)
        assert ("DONE", 1, None) == (task["state"], task["attempt"], task["result"])
        # All of it is kept, so that what was put together can be compared with it.
        assert rest(line, task_id, 0) == whole
        assert "data: [DONE]" == whole[-1]
        assert 1 == line.backend_state()["calls"]


def test_a_task_that_nobody_comes_back_to_is_cancelled_by_its_provider() -> None:
    with running_line(INFERLINE_READER_SECONDS="1", INFERLINE_UNREAD_TASK_SECONDS="1") as line:
        task_id, _ = begin(line, 3)
        before = line.backend_state()

        until(lambda: not line.backend_state()["running"], "the slot is free")

        assert 1 == before["running"]
        restart(line)
        assert "CANCELLED" == task_object(line, task_id)["state"]


def test_a_cancel_by_route_ends_the_backends_work(line: Line) -> None:
    before = line.backend_state()
    with httpx.stream("POST", line.url + PATH, json=BODY, timeout=60) as response:
        texts = response.iter_lines()
        next(texts)
        url = f"{line.url}/v1/tasks/{response.headers['x-request-id']}/cancel"
        assert "CANCELLED" == httpx.post(url, timeout=60).json()["state"]

        until(lambda: not line.backend_state()["running"], "the slot is free")

        [event] = [text for text in texts if '"error"' in text]
    assert "cancelled" == json.loads(event.removeprefix("data: "))["error"]["code"]
    assert before["disconnects"] + 1 == line.backend_state()["disconnects"]
    assert before["calls"] + 1 == line.backend_state()["calls"]
