"""The line counts the tokens that a real LLM server tells of, and says why a provider is idle."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inferline.local.llm import model
from inferline.streams.sse import EventParser
from tests.support.line import Line, empty_line, get_json, until
from tests.support.llm import start_line

SAME = {"model": model.ALIAS, "temperature": 0, "seed": 7, "max_tokens": 9}
CHAT = {**SAME, "messages": [{"role": "user", "content": "Erzähl mir von 東京 😀"}]}
MESSAGES = "/v1/messages"
#: The path, and what is asked for.
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("/v1/chat/completions", CHAT),
    "a stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "a text": ("/v1/completions", {**SAME, "prompt": "Once upon"}),
    "a stream of text": ("/v1/completions", {**SAME, "prompt": "Once upon", "stream": True}),
    "a response": ("/v1/responses", {**SAME, "input": "Hi", "stream": True}),
}


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with empty_line() as line:
        line.environ["INFERLINE_NO_PROVIDER_SECONDS"] = "10"
        start_line(line, slots=2, context=512)
        line.start_provider("p1")
        yield line


def ask(line: Line, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = httpx.post(line.url + path, json=body, timeout=60)
    assert 200 == answer.status_code, answer.text
    return answer


def documents(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return what an answer or its events tell."""
    if answer.headers["content-type"].startswith("application/json"):
        return [answer.json()]
    parser = EventParser()
    events = [*parser.feed(answer.content), *parser.close()]
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


def usage(answer: httpx.Response) -> tuple[int, int]:
    """Return the tokens that an answer itself tells of."""
    usages = [one.get("usage") or one.get("response", {}).get("usage") for one in documents(answer)]
    last = [one for one in usages if one][-1]
    return (
        last.get("prompt_tokens", last.get("input_tokens")),
        last.get("completion_tokens", last.get("output_tokens")),
    )


def usage_of_task(line: Line) -> tuple[int, int, int]:
    """Return the requests of the last hour, and their tokens."""
    hour = get_json(f"{line.url}/v1/overview/hour?model={model.ALIAS}")
    total = hour["total"] if hour else {"requests": 0, "input_tokens": 0, "output_tokens": 0}
    return total["requests"], total["input_tokens"], total["output_tokens"]


def test_the_overview_tells_the_tokens_that_the_answers_tell(line: Line) -> None:
    chat = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    # What a stream without the option would have told is what it tells with it.
    truth = {
        "a stream": usage(ask(line, "/v1/chat/completions", chat)),
        **{
            name: usage(ask(line, *ASKED[name]))
            for name in ("whole", "a text", "a stream of text", "a response")
        },
    }
    shown = documents(ask(line, *ASKED["a stream"]))

    expected = [*truth.values(), truth["a stream"]]
    total = (len(expected), *(sum(column) for column in zip(*expected, strict=True)))
    until(
        lambda: total == usage_of_task(line), f"{total} in the overview, not {usage_of_task(line)}"
    )
    assert [] == [one for one in shown if not one["choices"] or "usage" in one]
    assert (9, 9) == (truth["a stream"][1], truth["whole"][1])
    whole = get_json(f"{line.url}/v1/overview")["hour"]["total"]
    assert total[1:] == (whole["input_tokens"], whole["output_tokens"])


def test_a_stream_of_messages_counts_at_both_ends(line: Line) -> None:
    body = {**CHAT, "stream": True}
    answer = documents(ask(line, MESSAGES, body))
    start = next(one for one in answer if one["type"] == "message_start")["message"]["usage"]
    end = next(one for one in answer if one["type"] == "message_delta")["usage"]

    metrics = f"{line.url}/metrics"
    name = f'inferline_tokens_total{{gen_ai_request_model="{model.ALIAS}",gen_ai_token_type='

    counted = httpx.get(metrics, timeout=60).text
    ask(line, MESSAGES, body)
    again = httpx.get(metrics, timeout=60).text

    def value(text: str, kind: str) -> float:
        return float(text.partition(f'{name}"{kind}"}} ')[2].partition("\n")[0])

    grown = [value(again, kind) - value(counted, kind) for kind in ("input", "output")]
    # The second time llama.cpp finds the prompt in its cache, and tells so elsewhere.
    assert end["output_tokens"] == grown[1]
    assert 0 < start["input_tokens"]
    assert 0 < grown[0] <= start["input_tokens"]


def test_a_provider_tells_how_fast_it_is(line: Line) -> None:
    ask(line, *ASKED["whole"])

    until(lambda: line.providers()["p1"]["tokens_per_second"] > 0, "some speed")


def test_without_its_llm_server_a_provider_says_so_and_the_wait_is_seen(line: Line) -> None:
    next(part for part in line.parts if part.name == "llm").kill()

    sentence = "Its LLM server does not answer."
    until(lambda: line.providers()["p1"]["reason"] == sentence, "the reason")
    assert not line.providers()["p1"]["healthy"]

    with httpx.Client(base_url=line.url, timeout=60) as client:
        waiting = threading.Thread(
            target=client.post, args=("/v1/chat/completions",), kwargs={"json": CHAT}
        )
        waiting.start()
        minutes = f"{line.url}/v1/overview"

        def oldest() -> float:
            hour = get_json(minutes)["hour"]
            return max((one["oldest_seconds"] or 0.0 for one in hour["minutes"]), default=0.0)

        until(lambda: oldest() > 1, "how long it has waited")
        waiting.join()
