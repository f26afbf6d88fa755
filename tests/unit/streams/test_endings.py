from __future__ import annotations

import json
from typing import Any

import pytest

from inferline.streams.endings import Ending
from inferline.streams.sse import Event, EventParser, data_event

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"


def events(*datas: bytes | dict[str, Any], name: bytes | None = None) -> list[Event]:
    parser = EventParser()
    prefix = b"" if name is None else b"event: " + name + b"\n"
    parsed = []
    for data in datas:
        parsed += parser.feed(
            prefix + data_event(data if isinstance(data, bytes) else json.dumps(data).encode())
        )
    return parsed


def ending(path: str, *seen: Event, choices: int = 1) -> Ending:
    made = Ending(path, choices=choices)
    for event in seen:
        made.see(event)
    return made


def choice(reason: str | None, index: int = 0, text: str = "x") -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/completions", "/api/chat/completions/"]
)
def test_choices_end_with_a_finish_reason_and_with_nothing_else(path: str) -> None:
    begun = events(choice(None), choice(None, text='"finish_reason":"stop"'))

    assert not ending(path).complete
    assert not ending(path, *begun).complete
    assert ending(path, *begun, *events(choice("length"))).complete
    assert not ending(path, *begun, *events(b"[DONE]")).complete
    assert not ending(path, *events(b"[DONE]")).complete


@pytest.mark.parametrize("reason", ["", " ", "null", "None", 0, False, [], {"type": "stop"}])
def test_what_is_no_reason_ends_nothing(reason: Any) -> None:
    begun = events(choice(reason), choice(reason))

    assert not ending(CHAT, *begun, *events(b"[DONE]")).complete
    assert ending(CHAT, *begun, *events(choice("stop"))).complete


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_reason_that_tells_of_a_failure_is_an_error(reason: str) -> None:
    failed = ending(CHAT, *events(choice(None), choice(reason), b"[DONE]"))

    assert not failed.complete
    assert reason in str(failed.error)


def test_a_finish_reason_is_not_yet_the_end_of_reading() -> None:
    finished = events(choice("stop"))

    assert not ending(CHAT, *finished).done
    assert ending(CHAT, *finished, *events(b"[DONE]")).done


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
def test_the_spacing_of_the_json_does_not_matter(separators: tuple[str, str]) -> None:
    def spaced(reason: str | None) -> bytes:
        return json.dumps(choice(reason), separators=separators).encode()

    assert not ending(CHAT, *events(spaced(None))).complete
    assert ending(CHAT, *events(spaced("stop"))).complete


def test_every_choice_has_to_finish() -> None:
    first, second = events(choice("stop", 0)), events(choice("stop", 1))

    assert not ending(CHAT, *first, *first, choices=2).complete
    assert ending(CHAT, *first, *second, choices=2).complete
    both = {"choices": [choice(None, 0)["choices"][0], choice("stop", 1)["choices"][0]]}
    assert ending(CHAT, *events(both), *first, choices=2).complete


def test_one_choice_of_a_server_that_knows_no_n_is_a_whole_answer() -> None:
    first = events(choice(None), choice("stop"), b"[DONE]")

    assert ending(CHAT, *first, choices=3).complete
    assert not ending(CHAT, *events(choice(None, 1)), *first, choices=3).complete


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_done_alone_ends_no_stream_of_named_events(path: str) -> None:
    broken = ending(path, *events({"type": "message_start"}, b"[DONE]"))

    assert broken.done
    assert not broken.complete


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete", "response.failed"])
def test_responses_end_with_a_last_event_named_either_way(name: str) -> None:
    begun = events({"type": "response.output_text.delta", "delta": name})
    last = {"type": name, "response": {"error": None}}

    assert not ending(RESPONSES, *begun).complete
    assert ending(RESPONSES, *begun, *events(last, name=name.encode())).done
    assert ending(RESPONSES, *begun, *events(last)).complete


def test_messages_end_with_message_stop() -> None:
    begun = events({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    last = {"type": "message_stop"}

    assert not ending(MESSAGES, *begun).complete
    assert ending(MESSAGES, *begun, *events(last, name=b"message_stop")).complete
    assert ending(MESSAGES, *begun, *events(last)).complete


def test_what_ends_another_kind_does_not_end_this_one() -> None:
    assert not ending(CHAT, *events({"type": "message_stop"}, name=b"message_stop")).complete
    assert not ending(MESSAGES, *events(choice("stop"))).complete


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES, "/v1/rerank"])
def test_an_error_event_is_a_failed_ending_even_before_done(path: str) -> None:
    failed = ending(path, *events({"error": {"message": "out of memory"}}, b"[DONE]"))

    assert failed.error == {"message": "out of memory"}
    assert not failed.complete


def test_errors_are_known_in_their_other_forms() -> None:
    flat = events({"type": "error", "code": "x", "message": "m"}, name=b"error")
    text = events({"error": "no memory"})

    assert ending(RESPONSES, *flat).error == {"code": "x", "message": "m"}
    assert ending(CHAT, *text).error == {"message": "no memory"}


@pytest.mark.parametrize(
    "data",
    [
        {"error": ["no memory"]},
        {"detail": "no memory"},
        {"object": "error", "message": "no memory", "code": 500},
        {"message": "no memory", "type": "server_error"},
        {"error": True, "message": "no memory"},
        {"error": {"message": "no memory"}, "choices": [choice(None)["choices"][0]]},
    ],
)
def test_an_error_is_one_in_whatever_form(data: dict[str, Any]) -> None:
    assert "no memory" in str(ending(CHAT, *events(data)).error)


@pytest.mark.parametrize("data", [b"no memory", {"reason": "no memory"}])
def test_an_event_that_is_called_an_error_is_one(data: bytes | dict[str, Any]) -> None:
    assert "no memory" in str(ending(CHAT, *events(data, name=b"error")).error)


def test_an_error_that_is_null_or_only_spoken_of_is_none() -> None:
    spoken = events({"error": None}, {"choices": [{"delta": {"content": '"error"'}}]})
    nested = events({"response": {"error": {"message": "x"}}}, {"token": "error"}, b'"error"')

    assert ending(CHAT, *spoken, *nested).error is None


def test_an_unknown_endpoint_ends_with_its_stream() -> None:
    assert ending("/v1/audio/speech").complete


@pytest.mark.parametrize(
    "data",
    [
        b'{"finish_reason"',
        b'"finish_reason":1',
        b'{"choices":[7],"finish_reason":1}',
        b"[" * 9999 + b'"error"',
    ],
)
def test_a_broken_event_ends_nothing(data: bytes) -> None:
    broken = ending(CHAT, *events(data))

    assert not broken.complete
    assert broken.error is None
