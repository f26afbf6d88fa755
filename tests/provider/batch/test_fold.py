"""A line's answer comes as a stream and becomes the plain answer that the backend itself gives."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from inferline.streams.sse import data_event
from inferline.tasks.store import AttemptOutcome
from inferline_provider.backend.classification import Finish
from inferline_provider.backend.client import BackendClient
from inferline_provider.batch.fold import Folding, is_foldable, may_resume, streamed
from inferline_provider.faults import BadAnswer, Busy, CannotContinue
from tests.support.backend import Backend, serving
from tests.support.folding import folded, given_up
from tests.support.script import Script

CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"prompt": "Once upon a time\n"}
ASKED = {"model": "test-model", **CHAT}
STREAM = Finish(AttemptOutcome(status=200, content_type="text/event-stream"))
#: Half of an emoji each, as JSON may write them.
HALVES = ("\ud83d", "\ude00")
#: Quick enough, and slow enough to be given up in its middle.
STEADY = Script(first=0.01, interval=0.01, tokens=12)


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "test-model", **fields}).encode()


def chunk(choice: dict[str, Any] | None = None, **fields: Any) -> bytes:
    choices = [] if choice is None else [{"index": 0, "finish_reason": None, **choice}]
    document = {"id": "c1", "object": "chat.completion.chunk", "choices": choices, **fields}
    return data_event(json.dumps(document).encode())


def fold(*events: bytes) -> dict[str, Any]:
    folding = Folding(CHATS, body_of(**CHAT))
    for event in events:
        folding.put(event)
    answer: dict[str, Any] = json.loads(folding.answer(STREAM).body)
    return answer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1.0 }', b'{"a": 1.0 ,"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{"stream" : false, "a":1}\n',
            b'{"stream" : true, "a":1,"stream_options":{"include_usage":true}}\n',
        ),
        (
            b'{"stream_options":null,"b":{"stream":false},"stream":null}',
            b'{"stream_options":{"include_usage":true},"b":{"stream":false},"stream":true}',
        ),
        (
            rb'{"t":"\"stream\":false","stream":false}',
            rb'{"t":"\"stream\":false","stream":true,"stream_options":{"include_usage":true}}',
        ),
    ],
)
def test_a_request_for_a_stream_differs_in_nothing_else(body: bytes, expected: bytes) -> None:
    assert expected == streamed(body)


def test_a_request_whose_fields_can_not_be_found_is_written_anew() -> None:
    body = rb'{"stre\u0061m":false,"a":1}'

    assert {"stream": True, "stream_options": {"include_usage": True}, "a": 1} == json.loads(
        streamed(body)
    )


@pytest.mark.parametrize(
    ("path", "fields", "folds", "resumes"),
    [
        (CHATS, CHAT, True, True),
        (TEXTS, TEXT, True, True),
        (CHATS, {**CHAT, "stream": False, "stream_options": None, "tools": []}, True, True),
        (CHATS, {**CHAT, "logprobs": True}, True, False),
        (CHATS, {**CHAT, "response_format": {"type": "json_object"}}, True, False),
        (TEXTS, {"prompt": [1, 2, 3]}, True, False),
        (TEXTS, {"prompt": ["a", "b"]}, False, False),
        (CHATS, {**CHAT, "n": 2}, False, False),
        (CHATS, {**CHAT, "tools": [{"type": "function"}]}, False, False),
        (CHATS, {**CHAT, "stream": True}, False, False),
        ("/v1/responses", {"input": "Hi"}, False, False),
        ("/v1/embeddings", {"input": "Hi"}, False, False),
    ],
)
def test_which_requests_are_folded_and_which_resumed(
    path: str, fields: dict[str, Any], folds: bool, resumes: bool
) -> None:
    assert folds == is_foldable(path, body_of(**fields))
    assert resumes == may_resume(path, body_of(**fields))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHATS, CHAT),
        (CHATS, {**CHAT, "max_tokens": 3}),
        (CHATS, {**CHAT, "logprobs": True}),
        (CHATS, {**CHAT, "response_format": {"type": "json_object"}}),
        (TEXTS, TEXT),
        (TEXTS, {"prompt": [1, 2, 3]}),
    ],
)
async def test_a_folded_answer_is_the_plain_one(path: str, fields: dict[str, Any]) -> None:
    body = {"model": "test-model", **fields}

    async with serving(Backend(script=STEADY)) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}"
        plain = (await client.post(url + path, json=body)).json()
        status, document = await folded(url, path, body)

    assert 200 == status
    assert plain == document


def test_fields_of_a_server_s_own_are_kept() -> None:
    answer = fold(
        chunk({"delta": {"role": "assistant", "content": "", "note": 1}}, created=1),
        chunk({"delta": {"reasoning_content": "Hm"}, "stop_reason": None}, created=2),
        chunk({"delta": {"reasoning_content": "m.", "content": None}}),
        chunk({"delta": {"content": "Yes", "note": 2}, "logprobs": None}),
        chunk({"delta": {}, "finish_reason": "stop", "stop_reason": 7}),
        chunk(None, usage={"total_tokens": 3}, timings={"cache_n": 1}, metrics=None),
        b"data: [DONE]\n\n",
    )

    message = {"role": "assistant", "content": "Yes", "reasoning_content": "Hmm.", "note": 2}
    choice = {"index": 0, "message": message, "logprobs": None, "stop_reason": 7}
    assert {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "choices": [{**choice, "finish_reason": "stop"}],
        "usage": {"total_tokens": 3},
        "timings": {"cache_n": 1},
        "metrics": None,
    } == answer


def test_a_character_that_was_cut_in_two_is_whole_again() -> None:
    answer = fold(*(chunk({"delta": {"content": half}}) for half in HALVES))

    assert "\U0001f600" == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("after", [0, 5])
async def test_an_error_in_the_stream_is_the_answer(after: int) -> None:
    wrong = {"message": "The prompt is wrong.", "type": "invalid_request_error", "code": 400}
    script = Script(
        first=0.01, interval=0.001, error_event_after=after, error_event=event_of(wrong)
    )

    async with serving(Backend(script=script)) as port:
        status, document = await folded(f"http://127.0.0.1:{port}", CHATS, ASKED)

    assert 400 == status
    assert "The prompt is wrong." == document["error"]["message"]


def event_of(error: dict[str, Any]) -> str:
    return data_event(json.dumps({"error": error}).encode()).decode()


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ({"error_event_after": 4}, BadAnswer),
        ({"eof_after_tokens": 4}, BadAnswer),
        ({"abort_after_tokens": 4}, BadAnswer),
        ({"done_after_tokens": 4}, BadAnswer),
        ({"status": 429}, Busy),
    ],
)
async def test_an_answer_that_breaks_off_is_a_fault(
    script: dict[str, Any], fault: type[Exception]
) -> None:
    async with serving(Backend(script=Script(first=0.01, interval=0.001, **script))) as port:
        with pytest.raises(fault):
            await folded(f"http://127.0.0.1:{port}", CHATS, ASKED)


async def test_a_server_that_does_not_stream_answers_as_it_is() -> None:
    whole = {"object": "chat.completion", "choices": [{"message": {"content": "Yes"}}]}

    async with serving(Backend(script=Script(first=0.01, body=whole))) as port:
        status, document = await folded(f"http://127.0.0.1:{port}", CHATS, ASKED)

    assert (200, whole) == (status, document)


@pytest.mark.parametrize("bound", [{}, {"max_tokens": 9}])
@pytest.mark.parametrize(("path", "fields"), [(CHATS, CHAT), (TEXTS, TEXT)])
async def test_an_answer_that_was_given_up_twice_is_one_answer_in_the_end(
    path: str, fields: dict[str, Any], bound: dict[str, int]
) -> None:
    body = {"model": "test-model", "temperature": 0, **fields, **bound}

    async with serving(Backend(script=STEADY)) as port:
        url = f"http://127.0.0.1:{port}"
        folding, document = await given_up(url, path, body, [3, 6])
        _, plain = await folded(url, path, body)

    assert 6 < folding.tokens
    assert plain["choices"] == document["choices"]
    assert plain["usage"] == document["usage"]


async def test_a_text_that_reached_its_end_needs_no_other_request() -> None:
    folding = Folding(CHATS, body_of(**CHAT))
    folding.put(chunk({"delta": {"content": "Yes"}}))
    folding.put(chunk({"delta": {}, "finish_reason": "stop"}))
    folding.put(chunk(None, usage={"total_tokens": 2}))

    async with BackendClient("http://127.0.0.1:9") as backend:
        rest = await folding.resume("test-model", backend)

    assert rest.body is None
    document = json.loads(folding.answer(STREAM).body)
    assert "Yes" == document["choices"][0]["message"]["content"]


@pytest.mark.parametrize("part", [{"reasoning_content": "Hm"}, {"tool_calls": [{"index": 0}]}])
async def test_an_answer_with_more_than_text_is_not_resumed(part: dict[str, Any]) -> None:
    folding = Folding(CHATS, body_of(**CHAT))
    folding.put(chunk({"delta": part}))

    assert not folding.may_resume
    async with BackendClient("http://127.0.0.1:9") as backend:
        with pytest.raises(CannotContinue):
            await folding.resume("test-model", backend)
