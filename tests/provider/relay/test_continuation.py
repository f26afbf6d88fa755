"""An answer that one attempt began goes on in another, as one stream, or ends with an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest

from inferline.errors import Unavailable
from inferline.gateway.answer.reader import Reader
from inferline.memory.tasks import MemoryStore
from inferline.streams.sse import EventParser, is_done
from inferline.tasks.task import Chunk, State, Task
from inferline_provider.relay.continuation import DRAWS_MAX
from tests.provider.world import World, until, world
from tests.support import answers
from tests.support.answers import Asked
from tests.support.backend import Backend
from tests.support.script import Script

QUICK = Script(first=0.01, interval=0.005, tokens=12)
CHAT = {"stream": True}
TEXT = {"stream": True, "prompt": "Once upon a time\n"}
ARGUMENTS = {"properties": {name: {"type": "string"} for name in ("one", "two", "three")}}
CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
PATHS = [(CHATS, CHAT), (TEXTS, TEXT)]


async def read(around: World, task: Task) -> bytes:
    """Return the bytes that a client of the task gets. Raises its error."""
    reader, out = Reader(task.ref, streamed=True), b""
    while not reader.ended:
        wanted = reader.wanted()
        (page,) = await around.store.read([wanted])
        out += b"".join(reader.take(wanted, page))
        await asyncio.sleep(0)
    return out


def said(stream: bytes) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of a stream and its documents."""
    events = EventParser().feed(stream)
    assert is_done(events[-1])
    documents = [json.loads(event.data) for event in events[:-1]]
    choices = [document["choices"][0] for document in documents if document["choices"]]
    texts = [part["delta"].get("content") if "delta" in part else part["text"] for part in choices]
    return "".join(text or "" for text in texts), documents


def expected(path: str, body: dict[str, Any], tokens: int = 12, *, emoji: bool = False) -> str:
    whole = (answers.chat if "chat" in path else answers.completion)(Asked(body, tokens, emoji))
    choice = whole.whole["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


async def ask(around: World, path: str, body: dict[str, Any], **more: Any) -> Task:
    request = {
        **body,
        **({"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {}),
    }
    return await around.submit(request, path=path, **more)


@pytest.mark.parametrize(
    "fault",
    [
        *({"abort_after_tokens": 7}, {"eof_after_tokens": 7}, {"error_event_after": 7}),
        *({"done_after_tokens": 7}, {"done_after_tokens": 7, "empty_reasons": True}),
        {"abort_after_tokens": 7, "empty_reasons": True},
    ],
)
@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_a_stream_that_breaks_in_its_middle_goes_on_as_one(
    path: str, body: dict[str, Any], fault: dict[str, Any]
) -> None:
    script = {**fault, "times": 1}
    async with world(Backend(script=Script(first=0.05, interval=0.05, tokens=12))) as around:
        task = await ask(around, path, {**body, "x_script": script})
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, documents = said(await read(around, task))
        request = json.loads(around.backend.bodies[0])
        assert expected(path, request) == text
        assert 1 == len({(part["id"], part["created"], part["model"]) for part in documents})
        finishes = [c["finish_reason"] for d in documents for c in d["choices"]]
        assert ["stop"] == [reason for reason in finishes if reason]
        roles = [c for d in documents for c in d["choices"] if "role" in c.get("delta", {})]
        assert ("chat" in path) == len(roles)


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_the_usage_of_a_continued_answer_is_that_of_one_without_a_break(
    path: str, body: dict[str, Any]
) -> None:
    usages = []
    for script in ({}, {"abort_after_tokens": 7, "times": 1}):
        async with world(Backend(script=QUICK)) as around:
            options = {"stream_options": {"include_usage": True}, "x_script": script}
            task = await ask(around, path, {**body, **options})
            row = await around.ended(task)
            _, documents = said(await read(around, task))
            usages.append(documents[-1]["usage"])
            assert usages[-1] == {name: row.usage[name] for name in usages[-1]}

    assert usages[0] == usages[1]
    assert 12 == usages[0]["completion_tokens"]


async def test_a_text_has_no_fewer_tokens_than_it_had_events() -> None:
    async with world(Backend(script=QUICK)) as around:
        more = {"max_tokens": 8, "x_script": {"abort_after_tokens": 6, "times": 1, "emoji": True}}
        task = await ask(around, CHATS, {**CHAT, **more})
        await around.ended(task)

        text, _ = said(await read(around, task))
        request = json.loads(around.backend.bodies[0])
        assert expected(CHATS, request, emoji=True) == text
        assert 2 == json.loads(around.backend.bodies[-1])["max_tokens"]


@pytest.mark.parametrize("bound", [8, 8.0])
async def test_a_bound_on_tokens_holds_for_the_whole_answer(bound: float) -> None:
    async with world(Backend(script=QUICK)) as around:
        script = {"abort_after_tokens": 6, "times": 1}
        task = await ask(around, CHATS, {**CHAT, "max_tokens": bound, "x_script": script})
        await around.ended(task)

        text, documents = said(await read(around, task))
        assert 8 == len(text.split())
        assert "length" == documents[-1]["choices"][0]["finish_reason"]
        assert 2 == json.loads(around.backend.bodies[-1])["max_tokens"]


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": ARGUMENTS}}]},
    ],
)
async def test_what_is_more_than_a_text_is_not_continued(more: dict[str, Any]) -> None:
    async with world(Backend(script=Script(first=0.05, interval=0.05, tokens=12))) as around:
        script = {"abort_after_tokens": 3, "times": 1}
        row = await around.ended(await ask(around, CHATS, {**CHAT, **more, "x_script": script}))

        assert (State.FAILED, "provider_lost", 1) == (row.state, row.error["code"], row.attempt)


async def test_a_chat_whose_backend_cannot_continue_ends_with_an_error() -> None:
    backend = Backend(script=Script(first=0.05, interval=0.05, tokens=12))
    backend.continues = False
    async with world(backend) as around:
        task = await ask(around, CHATS, {**CHAT, "x_script": {"abort_after_tokens": 3}})
        row = await around.ended(task)

        assert (State.FAILED, "provider_lost") == (row.state, row.error["code"])
        assert 1 == around.backend.calls["/v1/chat/completions"]


async def test_a_continuation_that_is_refused_is_never_taken_for_the_answer() -> None:
    backend = Backend(script=Script(first=0.05, interval=0.05, tokens=12))
    async with world(backend) as around:
        task = await ask(around, CHATS, {**CHAT, "x_script": {"abort_after_tokens": 3}})
        await until(lambda: around.store.chunks(task.ref, 1))
        backend.script = Script(status=400)
        row = await around.ended(task)

        assert State.FAILED is row.state
        assert "provider_lost" == row.error["code"]


async def test_a_provider_that_drains_hands_a_begun_answer_on() -> None:
    script = Script(first=0.01, interval=0.05, tokens=60)
    async with world(Backend(script=script), drain_seconds=0.2) as around:
        task = await ask(around, CHATS, CHAT)
        await until(lambda: len(around.store.chunks(task.ref, 1)) > 2)
        around.stopping.ask()
        await around.running
        row = around.row(task)
        begun = around.store.chunks(task.ref, 1)

        assert (State.RUNNING, 0, 4) == (row.state, row.lease_ms, row.attempt_limit)
        assert begun[-1].data.endswith(b"\n\n")


async def test_an_answer_that_was_whole_but_for_its_end_is_ended_without_asking_again() -> None:
    async with world(Backend(script=QUICK)) as around:
        body = {"stream": True, "prompt": "Once\n"}
        task = await around.submit(body, path=TEXTS, begun=event(" the end", "stop"))
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, _ = said(await read(around, task))
        assert " the end" == text
        assert not around.backend.calls["/v1/completions"]


async def test_an_answer_that_had_all_its_tokens_is_said_to_have_the_length_it_may() -> None:
    async with world(Backend(script=QUICK)) as around:
        body = {"stream": True, "prompt": "Once\n", "max_tokens": 2}
        begun = event(" one") + event(" two")
        task = await around.submit(body, path=TEXTS, begun=begun)
        await around.ended(task)

        text, documents = said(await read(around, task))
        assert (" one two", "length") == (text, documents[-1]["choices"][0]["finish_reason"])


async def test_an_answer_cut_inside_an_event_is_not_continued() -> None:
    async with world(Backend(script=QUICK)) as around:
        body = {"stream": True, "prompt": "Once\n"}
        task = await around.submit(body, path=TEXTS, begun=event(" one")[:-9])
        row = await around.ended(task)

        assert (State.FAILED, "provider_lost") == (row.state, row.error["code"])


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return answers.event({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})


#: A chat as `ask` has it.
HI = {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]}
ROLE = {"role": "assistant", "content": ""}


def turn(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    same = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "test-model"}
    return answers.event({**same, "choices": [choice], **more})


async def test_a_chat_goes_on_at_a_vllm_as_one() -> None:
    backend = Backend(script=QUICK)
    backend.vllm = str.strip
    async with world(backend) as around:
        more = {"stream_options": {"include_usage": True}}
        script = {"abort_after_tokens": 7, "times": 1}
        task = await ask(around, CHATS, {**CHAT, **more, "x_script": script})
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, documents = said(await read(around, task))
        first, *_, last = map(json.loads, around.backend.bodies)
        assert expected(CHATS, first) == text
        assert 12 == documents[-1]["usage"]["completion_tokens"]
        assert (True, False) == (last["continue_final_message"], last["add_generation_prompt"])


async def test_a_model_that_was_told_not_to_think_goes_on() -> None:
    backend = Backend(script=QUICK)
    backend.thinks = True
    async with world(backend) as around:
        more = {"chat_template_kwargs": {"enable_thinking": False}}
        script = {"abort_after_tokens": 7, "times": 1}
        row = await around.ended(await ask(around, CHATS, {**CHAT, **more, "x_script": script}))

        assert (State.DONE, 2) == (row.state, row.attempt)


async def test_a_vllm_whose_template_would_double_a_space_is_not_asked_to_go_on() -> None:
    backend = Backend(script=QUICK)
    backend.vllm = str.strip
    async with world(backend) as around:
        begun = turn({**ROLE, "content": first_word() + " "})
        row = await around.ended(await ask(around, CHATS, CHAT, begun=begun))

        assert (State.FAILED, "provider_lost") == (row.state, row.error["code"])
        assert not around.backend.calls[CHATS]


async def test_an_error_in_the_rest_of_an_answer_is_no_end_of_it() -> None:
    async with world(Backend(script=Script(first=0.02, interval=0.02, tokens=12))) as around:
        script = {"error_event_after": 4, "times": 2}
        task = await ask(around, CHATS, {**CHAT, "x_script": script})
        row = await around.ended(task)

        assert (State.DONE, 3) == (row.state, row.attempt)
        text, _ = said(await read(around, task))
        assert expected(CHATS, json.loads(around.backend.bodies[0])) == text


async def test_a_large_event_is_part_of_the_rest() -> None:
    large = "word " * 100_000
    rest = turn({"content": large}) + turn({}, "stop") + b"data: [DONE]\n\n"
    script = Script(body=rest.decode(), content_type="text/event-stream")
    async with world(Backend(script=script)) as around:
        task = await ask(around, CHATS, CHAT, begun=turn(ROLE) + turn({"content": "So "}))
        await around.ended(task)

        text, _ = said(await read(around, task))
        assert len("So " + large) == len(text)


async def test_what_a_message_of_the_client_says_of_itself_is_not_said_of_the_answer() -> None:
    async with world(Backend(script=QUICK)) as around:
        request = {"messages": [{"role": "user", "name": "Ann", "content": "Hi"}], **CHAT}
        begun = turn({**ROLE, "content": " the"})
        await around.ended(await around.submit(request, begun=begun))

        last = json.loads(around.backend.bodies[-1])["messages"][-1]
        assert {"role": "assistant", "content": " the"} == last


@pytest.mark.parametrize("bound", [{}, {"max_completion_tokens": 50, "min_tokens": 9}])
async def test_for_its_usage_alone_an_answer_is_not_made_again(bound: dict[str, Any]) -> None:
    async with world(Backend(script=QUICK)) as around:
        options = {"stream_options": {"include_usage": True}, **bound}
        begun = turn({**ROLE, "content": " the"}) + turn({}, "stop")
        task = await ask(around, CHATS, {**CHAT, **options}, begun=begun)
        await around.ended(task)

        text, documents = said(await read(around, task))
        assert (" the", 1) == (text, documents[-1]["usage"]["completion_tokens"])
        request = json.loads(around.backend.bodies[-1])
        limits = {name: request[name] for name in request if name.endswith("_tokens")}
        assert ({"max_completion_tokens": 1, "min_tokens": 0} if bound else {"max_tokens": 1}) == (
            limits
        )


async def test_the_usage_that_was_told_before_a_break_is_counted() -> None:
    async with world(Backend(script=QUICK)) as around:
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        begun = turn(ROLE) + turn({"content": " the"}, "stop", usage=usage)
        row = await around.ended(await ask(around, CHATS, CHAT, begun=begun))

        assert usage == row.usage


async def test_a_server_that_refuses_the_question_for_usage_continues_without_it() -> None:
    backend = Backend(script=QUICK)
    backend.refuses_stream_options = True
    async with world(backend) as around:
        task = await ask(around, CHATS, CHAT, begun=turn({**ROLE, "content": first_word()}))
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, _ = said(await read(around, task))
        assert expected(CHATS, HI) == text


@pytest.mark.parametrize("odd", [{"emoji": True}, {"crlf": True}, {"comments": True}])
@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_an_answer_goes_on_again_and_again_however_it_is_written(
    path: str, body: dict[str, Any], odd: dict[str, Any]
) -> None:
    async with world(Backend(script=Script(first=0.02, interval=0.02, tokens=12))) as around:
        script = {"abort_after_tokens": 4, "times": 2, **odd}
        task = await ask(around, path, {**body, "x_script": script})
        row = await around.ended(task)

        assert (State.DONE, 3) == (row.state, row.attempt)
        text, documents = said(await read(around, task))
        request = json.loads(around.backend.bodies[0])
        assert expected(path, request, emoji="emoji" in odd) == text
        assert 1 == len({part["id"] for part in documents})


def stopped(path: str) -> dict[str, Any]:
    """Return a request with stop strings for which vLLM holds back seven characters."""
    more = {"stop": ["<<END>>>", "\n"], "stream_options": {"include_usage": True}}
    return {**HI, **(CHAT if "chat" in path else TEXT), **more}


def held_back(path: str, count: int, held: int = 7) -> bytes:
    """Return the first `count` words of an answer from a server that holds some characters back."""
    words = expected(path, stopped(path)).split()[:count]
    whole = "".join(" " + word for word in words)
    ends = [max(0, end - held) for end in accumulate(len(word) + 1 for word in words)]
    pieces = [whole[start:end] for start, end in pairwise([0, *ends])]
    if "chat" in path:
        return turn(ROLE) + b"".join(turn({"content": piece}) for piece in pieces)
    return b"".join(map(event, pieces))


@pytest.mark.parametrize("count", [2, 5, 8, 11])
@pytest.mark.parametrize("path", [CHATS, TEXTS])
async def test_an_answer_that_was_cut_inside_a_word_goes_on_from_a_whole_one(
    path: str, count: int
) -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit(stopped(path), path=path, begun=held_back(path, count))
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, documents = said(await read(around, task))
        assert expected(path, stopped(path)) == text
        assert 12 == documents[-1]["usage"]["completion_tokens"]


async def test_an_answer_that_is_told_by_tokens_goes_on_from_its_last_one() -> None:
    async with world(Backend(script=QUICK)) as around:
        begun = held_back(CHATS, 5, held=0)
        task = await around.submit(stopped(CHATS), begun=begun)
        await around.ended(task)

        last = json.loads(around.backend.bodies[-1])["messages"][-1]["content"]
        assert expected(CHATS, stopped(CHATS)).split()[:5] == last.split()
        assert expected(CHATS, stopped(CHATS)) == said(await read(around, task))[0]


@pytest.mark.parametrize(("temperature", "begins"), [(0, True), (1, False)])
async def test_a_text_without_spaces_is_made_again_only_where_it_comes_again(
    temperature: float, begins: bool
) -> None:
    async with world(Backend(script=QUICK)) as around:
        begun = turn(ROLE) + turn({"content": "天地玄黄" * 20}) + turn({"content": "宇宙洪荒" * 20})
        body = {**stopped(CHATS), "temperature": temperature}
        await around.ended(await around.submit(body, begun=begun))

        last = json.loads(around.backend.bodies[-1])["messages"][-1]
        assert begins == ("user" == last["role"])


async def test_usage_without_choices_counts_the_whole_answer_too() -> None:
    usage = '{"choices":null,"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
    rest = turn({"content": " belt"}) + turn({}, "stop") + f"data: {usage}\n\n".encode()
    script = Script(body=(rest + b"data: [DONE]\n\n").decode(), content_type="text/event-stream")
    async with world(Backend(script=script)) as around:
        begun = turn(ROLE) + turn({"content": " the"})
        row = await around.ended(await ask(around, CHATS, CHAT, begun=begun))

        assert 3 == around.store.outcomes[row.ref].usage["completion_tokens"]


@pytest.mark.parametrize(
    ("more", "requests"), [({}, DRAWS_MAX), ({"temperature": 0}, 1), ({"seed": 7}, 1)]
)
async def test_an_answer_whose_last_word_does_not_come_again_ends_with_an_error(
    more: dict[str, Any], requests: int
) -> None:
    async with world(Backend(script=QUICK)) as around:
        begun = turn(ROLE) + turn({"content": " so ano"}) + turn({"content": "ther wo"})
        row = await around.ended(await around.submit({**stopped(CHATS), **more}, begun=begun))

        assert (State.FAILED, "provider_lost", 2) == (row.state, row.error["code"], row.attempt)
        assert requests == around.backend.calls[CHATS]


async def test_what_is_drawn_is_drawn_again_until_the_last_word_comes_again() -> None:
    other = turn(ROLE) + turn({"content": " worse"}) + turn({}, "stop") + b"data: [DONE]\n\n"
    script = {"body": other.decode(), "content_type": "text/event-stream", "times": 2}
    async with world(Backend(script=QUICK)) as around:
        body = {**stopped(CHATS), "x_script": script}
        words = expected(CHATS, {"model": "test-model", **body}).split()
        begun = turn(ROLE) + turn({"content": f" {words[0]} {words[1][:1]}"})
        task = await around.submit(body, begun=begun)
        row = await around.ended(task)

        assert (State.DONE, 3) == (row.state, around.backend.calls[CHATS])
        assert words == said(await read(around, task))[0].split()


async def test_an_answer_under_another_name_goes_on_under_it() -> None:
    async with world(Backend(models=["/m.gguf"], script=QUICK), aliases={"m": "/m.gguf"}) as around:
        body = {
            "stream": True,
            "prompt": "Once\n",
            "x_script": {"abort_after_tokens": 4, "times": 1},
        }
        task = await around.submit(body, path=TEXTS, model="m")
        row = await around.ended(task)

        assert (State.DONE, 2) == (row.state, row.attempt)
        text, documents = said(await read(around, task))
        assert expected(TEXTS, json.loads(around.backend.bodies[0])) == text
        assert {"m"} == {part["model"] for part in documents}


async def test_an_answer_of_which_only_the_speaker_is_known_has_one_speaker() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await ask(around, CHATS, CHAT, begun=turn(ROLE))
        await around.ended(task)

        text, documents = said(await read(around, task))
        assert expected(CHATS, HI) == text
        assert 1 == sum("role" in c["delta"] for d in documents for c in d["choices"])


async def test_a_character_that_was_told_in_two_halves_is_put_together() -> None:
    async with world(Backend(script=QUICK)) as around:
        halves = turn({**ROLE, "content": "HIGH"}) + turn({"content": "LOW"})
        begun = halves.replace(b"HIGH", rb"\ud83d").replace(b"LOW", rb"\ude00")
        await around.ended(await ask(around, CHATS, CHAT, begun=begun))

        assert "\U0001f600" == json.loads(around.backend.bodies[-1])["messages"][-1]["content"]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"refusal": "No"},
    ],
)
async def test_an_answer_that_has_shown_to_be_more_than_text_is_not_continued(
    delta: dict[str, Any],
) -> None:
    async with world(Backend(script=QUICK)) as around:
        begun = turn(ROLE) + turn({"content": None, **delta})
        row = await around.ended(await ask(around, CHATS, CHAT, begun=begun))

        assert (State.FAILED, "provider_lost") == (row.state, row.error["code"])
        assert not around.backend.calls[CHATS]


def first_word() -> str:
    return " " + expected(CHATS, HI).split()[0]


async def test_an_answer_whose_end_could_not_be_written_goes_on_in_another_attempt() -> None:
    class Store(MemoryStore):
        """A store that takes no chunk for a while after the first."""

        refused = 0

        async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
            if chunks[0].seq and chunks[0].attempt == 1:
                self.refused += 1
                raise Unavailable
            await super().write_chunks(chunks)

    # All but the first bytes are written at the end.
    terms = {"lease_seconds": 2.0, "flush_seconds": 60.0, "flush_bytes": 10**7}
    script = Script(first=0.01, interval=0.0, tokens=700)
    async with world(Backend(script=script), store=Store(), terms=terms) as around:
        task = await ask(around, CHATS, CHAT)
        row = await around.ended(task, 30)

        assert around.store.refused
        assert (State.DONE, 2) == (row.state, row.attempt)
        text, _ = said(await read(around, task))
        assert expected(CHATS, json.loads(around.backend.bodies[0]), 700) == text
