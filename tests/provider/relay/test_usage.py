from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.streams.sse import Event, EventParser
from inferline.tasks.store import AttemptOutcome
from inferline_provider.backend.classification import PARSED_BYTES_MAX, Finish
from inferline_provider.relay import edits
from inferline_provider.relay.usage import UsageReader
from inferline_provider.relay.usage_question import UsageAsker, is_refusal

CHAT = "/v1/chat/completions"
ASKED = b'"stream_options":{"include_usage":true}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
OPTIONS = st.fixed_dictionaries(
    {}, optional={"include_usage": st.none() | st.booleans(), "other": JSON}
)

TEXT = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


def ask(body: bytes, path: str = CHAT) -> bytes | None:
    return UsageAsker().ask(path, body)


def events(sent: bytes) -> list[Event]:
    return EventParser().feed(sent)


def passed(sent: bytes, *, hides: bool = True) -> bytes:
    """Return the bytes of a stream that a client gets."""
    reader = UsageReader(hides=hides)
    return b"".join(part.raw for part in [*reader.feed(events(sent)), *reader.end()])


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{ "stream" : true,\n "x": 1.50 }', b'{ "stream" : true,\n "x": 1.50 ,%b}'),
        (b'{"stream":true}\n', b'{"stream":true,%b}\n'),
        (
            b'{"stream_options": null, "stream":true}',
            b'{"stream_options": {"include_usage":true}, "stream":true}',
        ),
        (b'{"stream_options":{},"stream":true}', b'{%b,"stream":true}'),
        (b'{"stream_options":{"include_usage":false},"stream":true}', b'{%b,"stream":true}'),
        (b'{"stream_options":{"include_usage":null},"stream":true}', b'{%b,"stream":true}'),
        (
            b'{"stream":true,"stream_options": {"a":1.0}}',
            b'{"stream":true,"stream_options": {"include_usage":true,"a":1.0}}',
        ),
    ],
)
def test_only_the_question_is_added(body: bytes, changed: bytes) -> None:
    assert changed.replace(b"%b", ASKED) == ask(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b'["stream"]',
        b'{"stream":false}',
        b'{"a":{"stream":true}}',
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":true,"stream_options":{"include_usage":"yes"}}',
        b'{"stream":true,"stream_options":7}',
        b'{"stream":true,"stream_options":{"continuous_usage_stats":true}}',
    ],
)
def test_what_is_no_such_stream_or_has_asked_itself_stays(body: bytes) -> None:
    assert ask(body) is None


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_only_completions_need_to_be_asked(path: str) -> None:
    assert ask(b'{"stream":true}', path) is None
    assert ask(b'{"stream":true}', "/v1/completions") is not None


@given(st.dictionaries(st.text(), JSON, max_size=4), st.none() | OPTIONS, st.booleans())
def test_any_request_keeps_all_but_the_question(
    document: dict[str, Any], options: dict[str, Any] | None, ascii_only: bool
) -> None:
    document = {"a": {"stream_options": options}, **document, "stream": True}
    document["stream_options"] = options
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    changed = ask(body)

    if (options or {}).get("include_usage"):
        assert changed is None
    else:
        wanted = {**document, "stream_options": {**(options or {}), "include_usage": True}}
        assert wanted == json.loads(changed or b"")


def test_a_body_full_of_places_is_not_read_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[bytes] = []
    read = edits.read
    monkeypatch.setattr(edits, "read", lambda body: reads.append(body) or read(body))
    nested = [{"stream_options": None}] * 1000

    assert ask(json.dumps({"a": nested, "stream": True, "stream_options": None}).encode()) is None
    assert len(reads) < 20


def test_a_backend_that_refuses_the_question_is_not_asked_again() -> None:
    asker = UsageAsker()
    asker.stop()

    assert asker.ask(CHAT, b'{"stream":true}') is None


@pytest.mark.parametrize(
    ("status", "text", "refused"),
    [
        (400, b'{"error":"unknown field stream_options"}', True),
        (422, b'{"loc":["stream_options"]}', True),
        (400, b'{"error":"temperature"}', False),
        (200, b'{"stream_options":1}', False),
    ],
)
def test_a_refusal_names_the_question(status: int, text: bytes, refused: bool) -> None:
    assert refused == is_refusal(Finish(AttemptOutcome(status=status), text))


def test_the_event_that_only_we_asked_for_is_not_passed_on() -> None:
    reader = UsageReader(hides=True)

    passed_on = list(reader.feed(events(TEXT + FINISH + USAGE + DONE)))

    assert TEXT + FINISH + DONE == b"".join(part.raw for part in passed_on)
    assert {"prompt_tokens": 3, "completion_tokens": 1} == reader.usage


@pytest.mark.parametrize(
    "kept",
    [
        b'data: {"choices":[{"text":"","finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[],"usage":null}\n\n',
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"error":{"message":"m"},"usage":{"prompt_tokens":1}}\n\n',
    ],
)
def test_any_other_event_is_passed_on(kept: bytes) -> None:
    assert TEXT + kept + DONE == passed(TEXT + kept + USAGE + DONE)


def test_a_client_that_asked_gets_it_as_it_came() -> None:
    stream = TEXT + FINISH + USAGE + DONE

    assert stream == passed(stream, hides=False)


def test_a_stream_without_usage_is_passed_on_whole() -> None:
    assert TEXT + FINISH == passed(TEXT + FINISH)
    assert TEXT + FINISH + FINISH + DONE == passed(TEXT + FINISH + FINISH + DONE)


@pytest.mark.parametrize("choices", [b"", b'"choices":null,', b'"choices" : [],'])
def test_usage_without_choices_is_not_passed_on_either(choices: bytes) -> None:
    usage = b"data: {" + choices + b'"usage":{"prompt_tokens":3}}\n\n'

    assert TEXT + FINISH + DONE == passed(TEXT + FINISH + usage + DONE)
    assert usage + TEXT == passed(usage + TEXT, hides=False)


def test_the_fingerprint_of_vllm_stands_where_it_would_have_stood() -> None:
    more = b',"system_fingerprint":"vllm-0.32.0","x": {"a" : 1}}'
    reported = USAGE.strip()[:-1] + b',"metrics":{"time":1}' + more + b"\n\n"

    passed_on = passed(TEXT + FINISH + reported + DONE)

    assert TEXT + FINISH.strip()[:-1] + more + b"\n\n" + DONE == passed_on


def test_each_of_several_choices_ends_with_the_fingerprint_that_the_last_answer_had() -> None:
    asker, more = UsageAsker(), b',"system_fingerprint":"vllm-0.32.0"}'
    first, text, finish = (
        part.replace(b"{", b'{"model":"m",', 1) for part in (FINISH, TEXT, FINISH)
    )
    reported = USAGE.replace(b"{", b'{"model":"m",', 1).strip()[:-1] + more + b"\n\n"
    stream = events(first + text + finish + reported + DONE)

    passed_on = [
        b"".join(part.raw for part in UsageReader(hides=True, asker=asker).feed(stream))
        for _ in range(2)
    ]

    ended = FINISH.replace(b"{", b'{"model":"m",', 1).strip()[:-1] + more + b"\n\n"
    assert [first + text + ended + DONE, ended + text + ended + DONE] == passed_on


def test_what_every_event_says_is_not_said_twice() -> None:
    finish = FINISH.replace(b'{"choices"', b'{"id":"1","choices"')
    reported = USAGE.replace(b'{"choices"', b'{"id":"1","choices"')

    assert TEXT + finish + DONE == passed(TEXT + finish + reported + DONE)


def test_the_timings_of_llama_cpp_stand_where_they_would_have_stood() -> None:
    timings = b',"timings":{"prompt_n":31,"prompt_ms":1.840}}'
    reported = USAGE.strip()[:-1] + timings + b"\n\n"

    passed_on = passed(TEXT + FINISH + reported + DONE)

    assert TEXT + FINISH.strip()[:-1] + timings + b"\n\n" + DONE == passed_on


@pytest.mark.parametrize("first", [True, False])
def test_a_large_answer_tells_of_its_usage_wherever_that_stands(first: bool) -> None:
    large = b'"data":["' + b"x" * PARSED_BYTES_MAX + b'"]'
    reported = b'"usage" : {"prompt_tokens":3}'
    reader = UsageReader(hides=False)

    reader.see(b"{" + b",".join([reported, large] if first else [large, reported]) + b"}")

    assert {"prompt_tokens": 3} == reader.usage


def test_a_large_answer_with_a_usage_that_is_none_tells_nothing() -> None:
    reader = UsageReader(hides=False)

    reader.see(b'{"data":["' + b"x" * PARSED_BYTES_MAX + b'"],"usage":nothing}')

    assert {} == reader.usage


def test_a_stream_of_messages_tells_of_its_usage_at_both_ends() -> None:
    reader = UsageReader(hides=False)
    start = b'{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}'

    reader.see(start)
    reader.see(b'{"type":"message_delta","usage":{"output_tokens":5}}')

    assert {"input_tokens": 9, "output_tokens": 5} == reader.usage
