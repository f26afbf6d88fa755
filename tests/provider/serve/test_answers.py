"""Each way a backend can answer, from its socket to the task's row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from inferline.tasks.task import CHUNK_BYTES_MAX, State, Task
from inferline_provider.backend.breaker import REST_SECONDS
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

QUICK = Script(first=0.01, interval=0.005, tokens=4)


async def ask(around: World, script: dict[str, Any], **more: Any) -> Task:
    body = {"x_script": script, **more.pop("body", {})}
    return await around.ended(await around.submit(body, **more))


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 501])
async def test_a_refusal_of_the_request_reaches_the_client_as_it_is(status: int) -> None:
    async with world(Backend(script=QUICK)) as around:
        text = '{"detail" :  "mine"}'
        row = await ask(around, {"status": status, "body": text})

        assert (row.state, row.status, row.tail.decode()) == (State.DONE, status, text)
        assert around.backend.calls.total() == 1


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_lone_failure_is_not_seen(status: int) -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"status": status, "times": 1})

        assert (row.state, row.status, row.attempt) == (State.DONE, 200, 1)
        assert around.backend.calls["/v1/chat/completions"] == 2


async def test_a_failure_that_repeats_at_a_server_that_is_well_is_told_in_its_words() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"status": 500})

        assert (row.state, row.status, row.attempt) == (State.DONE, 500, 1)
        assert json.loads(row.tail)["error"]["message"] == "scripted 500"
        assert row.headers == {"x-should-retry": "false"}
        assert around.backend.calls["/v1/chat/completions"] == 2


async def test_where_another_serves_the_model_what_fails_twice_is_that_ones() -> None:
    async with world(Backend(script=QUICK), peers={"test-model": 1}) as around:
        task = await around.submit({"x_script": {"status": 500, "times": 2}})
        await until(lambda: around.row(task).attempt == 1 and around.row(task).lease_ms == 0)

        assert around.backend.calls["/v1/chat/completions"] == 2
        assert around.row(task).attempts_left == 2


async def test_a_server_says_that_repeating_does_not_help_and_is_believed() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"status": 500, "headers": {"x-should-retry": "false"}})

        assert (row.status, row.headers) == (500, {"x-should-retry": "false"})


async def test_a_proxys_error_page_is_not_shown() -> None:
    async with world(Backend(script=QUICK)) as around:
        script = {"status": 502, "body": "<html>", "content_type": "text/html"}
        row = await ask(around, script)

        assert (row.state, row.error["status"]) == (State.FAILED, 502)
        assert row.error["code"] == "backend_failed"
        assert row.tail == b""


@pytest.mark.parametrize("body", ["", "<html>", "{"])
async def test_a_success_without_json_fails(body: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"body": body})

        assert (row.state, row.attempt) == (State.FAILED, 1)
        assert row.headers == {"x-should-retry": "false"}


async def test_a_success_around_an_error_becomes_that_error() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"body": {"error": {"message": "too long", "code": 400}}})

        assert (row.state, row.status, row.attempt) == (State.DONE, 400, 1)
        assert json.loads(row.tail)["error"]["message"] == "too long"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_backend_costs_no_attempt(status: int) -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"status": status, "times": 1, "retry_after": 1}, attempts=1)

        assert (row.state, row.status) == (State.DONE, 200)
        assert (row.attempt, row.attempt_limit) == (2, 2)


async def test_a_backend_that_stays_busy_is_told_with_its_own_words_and_time() -> None:
    async with world(Backend(script=QUICK), terms={"busy_seconds_max": 1.0}) as around:
        row = await ask(around, {"status": 429, "retry_after": 7})

        assert (row.state, row.status) == (State.DONE, 429)
        assert json.loads(row.tail)["error"]["message"] == "scripted 429"
        assert row.headers == {"retry-after": "7"}


@pytest.mark.parametrize(
    "script",
    [
        {"body": {"error": {"message": "m", "type": "t", "code": "insufficient_quota"}}},
        {"body": {"error": {"message": "m", "type": "insufficient_quota", "code": None}}},
        {"headers": {"x-should-retry": "false"}},
    ],
)
async def test_what_no_waiting_mends_is_told_at_once(script: dict[str, Any]) -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"status": 429, **script})

        assert (row.state, row.status, row.attempt) == (State.DONE, 429, 1)


async def test_tasks_that_are_refused_again_and_again_close_nothing_for_a_new_one() -> None:
    async with world(Backend(script=QUICK)) as around:
        refused = [await around.submit({"x_script": {"status": 503}}) for _ in range(4)]
        await until(lambda: min(around.row(task).attempt for task in refused) > 1)

        assert (await asyncio.wait_for(ask(around, {}), 5 * REST_SECONDS[1])).status == 200


async def test_a_busy_backend_leaves_the_task_to_another_at_once() -> None:
    async with world(Backend(script=QUICK), peers={"test-model": 1}) as around:
        queue = (await around.queue.make("test-model"))["default"]
        task = await around.submit({"x_script": {"status": 429, "retry_after": 30}})
        await until(lambda: around.row(task).attempt == 1 and around.row(task).lease_ms == 0)

        assert (await around.queue.depth(queue)).waiting == 1
        assert around.row(task).attempts_left == 3


async def test_a_403_about_one_request_stops_nobody_else() -> None:
    async with world(Backend(script=QUICK)) as around:
        await ask(around, {})
        body = {"error": {"message": "secret words", "code": "content_filter"}}
        row = await ask(around, {"status": 403, "body": body})

        assert (row.state, row.status, row.attempt) == (State.DONE, 403, 1)
        assert json.loads(row.tail)["error"]["code"] == "content_filter"
        assert b"secret" not in row.tail
        assert (await ask(around, {})).status == 200


async def test_a_refused_key_stops_the_provider_and_shows_nothing() -> None:
    async with world(Backend(script=QUICK), backend_key="right") as around:
        around.backend.api_key = "another"
        row = await ask(around, {}, attempts=1)

        assert (row.state, row.error["status"]) == (State.FAILED, 502)
        assert "key" not in row.error["message"].lower()
        await until(lambda: not around.gateway.enrolments[-1]["healthy"])


async def test_a_refused_key_leaves_the_task_to_others() -> None:
    async with world(Backend(script=QUICK)) as around:
        around.backend.api_key = "another"
        task = await around.submit()
        await until(lambda: around.row(task).attempt == 1 and around.row(task).lease_ms == 0)
        queue = (await around.queue.make("test-model"))["default"]

        await asyncio.sleep(0.1)

        assert (await around.queue.depth(queue)).waiting == 1
        assert around.row(task).attempt == 1


async def test_a_reset_before_the_answer_is_tried_again() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"abort_after_tokens": 0}, body={"stream": True})

        assert (row.state, row.attempt) == (State.FAILED, 1)
        assert around.backend.calls["/v1/chat/completions"] == 2
        assert row.error["code"] == "backend_failed"


@pytest.mark.parametrize("how", ["abort_after_tokens", "eof_after_tokens"])
async def test_an_answer_that_breaks_off_in_every_attempt_fails(how: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {how: 2, "interval": 0.05, "tokens": 40}, body={"stream": True})

        assert (row.state, row.attempt) == (State.FAILED, 3)
        assert row.error["code"] == "provider_lost"
        assert around.backend.calls["/v1/chat/completions"] == 3


async def test_an_answer_that_nobody_reads_as_a_stream_begins_anew_when_it_breaks_off() -> None:
    sent = 'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    script = {"body": sent, "content_type": "text/event-stream", "times": 1}
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, script)

        assert (row.state, row.status) == (State.DONE, 200)
        assert around.backend.calls["/v1/chat/completions"] == 2


async def test_a_stream_is_one_however_its_request_spells_that() -> None:
    script = b'{"abort_after_tokens": 3, "tokens": 40, "interval": 0.05}'
    request = b'{"model": "test-model", "messages": [], "str\\u0065am": true, "x_script": %b}'
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit(form=request % script, attempts=1)
        row = await around.ended(task)

        assert (row.state, row.error["code"]) == (State.FAILED, "provider_lost")


async def test_an_event_that_is_cut_in_its_middle_is_not_passed_on() -> None:
    sent = 'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choices": [{"del'
    script = {"body": sent, "content_type": "text/event-stream"}
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit({"stream": True, "x_script": script})
        row = await around.ended(task)

        assert row.state is State.FAILED
        assert not around.answer(task).endswith(b'{"del\n\n')


async def test_a_last_event_without_its_blank_line_is_passed_on_when_it_ends_the_answer() -> None:
    sent = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]'
    script = {"body": sent, "content_type": "text/event-stream"}
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit({"stream": True, "x_script": script})
        row = await around.ended(task)

        assert row.state is State.DONE
        assert around.answer(task).endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_falls_silent_in_every_attempt_fails() -> None:
    async with world(Backend(script=QUICK), terms={"gap_seconds_max": 0.2}) as around:
        script = {"stall_after_tokens": 2, "tokens": 40}
        row = await ask(around, script, body={"stream": True})

        assert (row.state, row.error["code"]) == (State.FAILED, "provider_lost")
        await until(lambda: not around.backend.running)


async def test_a_backend_that_never_answers_is_given_up() -> None:
    async with world(Backend(script=QUICK), terms={"first_byte_seconds_max": 0.2}) as around:
        row = await ask(around, {"hang": True}, attempts=2)

        assert (row.state, row.attempt) == (State.FAILED, 2)
        await until(lambda: around.backend.disconnects == 2)


async def test_a_task_ends_at_its_deadline_wherever_it_is() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {"hang": True}, seconds=0.3)

        assert row.state is State.EXPIRED
        await until(lambda: not around.backend.running)


async def test_an_error_in_the_stream_of_the_last_attempt_is_passed_on() -> None:
    async with world(Backend(script=QUICK)) as around:
        script = {"error_event_after": 2}
        task = await around.submit({"stream": True, "x_script": script}, attempts=1)
        row = await around.ended(task)

        assert row.state is State.DONE
        assert b"scripted failure" in around.answer(task)


async def test_an_answer_that_is_too_large_fails() -> None:
    async with world(Backend(script=QUICK), terms={"answer_bytes_max": 1000}) as around:
        row = await ask(around, {"body": {"data": "x" * 2000}}, attempts=1)

        assert (row.state, row.error["code"]) == (State.FAILED, "backend_failed")


async def test_a_large_answer_arrives_whole() -> None:
    async with world(Backend(script=QUICK)) as around:
        body = json.dumps({"data": ["é" * 100] * 2000})
        task = await around.submit({"x_script": {"body": body}}, path="/v1/embeddings")
        row = await around.ended(task)

        assert row.chunks >= len(body) // CHUNK_BYTES_MAX
        assert around.answer(task).decode() == body


async def test_a_stream_is_the_backends_bytes() -> None:
    async with world(Backend(script=QUICK)) as around:
        plain = await around.submit({"stream": True, "x_script": {"emoji": True, "tokens": 20}})
        await around.ended(plain)
        odd = await around.submit(
            {"stream": True, "x_script": {"crlf": True, "comments": True, "tokens": 20}}
        )
        await around.ended(odd)

        events = around.answer(odd).split(b"\n\n")
        assert all(event.startswith(b"data: ") for event in events[:-1])
        assert events[-2:] == [b"data: [DONE]", b""]
        assert around.answer(plain).decode().count("data: ") >= 20


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages"])
async def test_every_kind_of_stream_ends_well(path: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        request = {"stream": True, "prompt": "p", "input": "i", "max_tokens": 5}
        row = await ask(around, {}, body=request, path=path)

        assert (row.state, row.status, row.attempt) == (State.DONE, 200, 1)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize"])
async def test_every_kind_of_question_is_put(path: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        request = {"input": "a", "query": "q", "documents": ["d"], "text_1": "a", "text_2": "b"}
        row = await ask(around, {}, body={**request, "prompt": "p"}, path=path)

        assert (row.state, row.status) == (State.DONE, 200)


async def test_a_large_request_comes_from_its_own_store() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {}, keyed=True)

        assert (row.state, row.status) == (State.DONE, 200)


async def test_a_damaged_request_is_not_run() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {}, sha256="0" * 64)

        assert (row.state, row.error["code"]) == (State.FAILED, "damaged_request")
        assert around.backend.calls.total() == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_alias_is_the_only_thing_that_changes(stream: bool) -> None:
    backend = Backend(models=["/models/m.gguf"], script=QUICK)
    async with world(backend, aliases={"m": "/models/m.gguf"}) as around:
        assert [model["id"] for model in around.gateway.enrolments[0]["models"]] == ["m"]
        task = await around.submit({"stream": stream, "user": "u"}, model="m")

        row = await around.ended(task)

        assert (row.state, row.status) == (State.DONE, 200)
        assert json.loads(backend.bodies[-1])["model"] == "/models/m.gguf"
        answer = around.answer(task)
        assert b"/models/m.gguf" not in answer
        assert b'"model":"m"' in answer.replace(b": ", b":")


async def test_an_error_as_the_first_event_is_tried_again() -> None:
    sent = 'data: {"error": {"message": "engine dead", "code": 500}}\n\ndata: [DONE]\n\n'
    script = {"body": sent, "content_type": "text/event-stream"}
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, script, body={"stream": True})

        assert (row.state, row.status, row.attempt) == (State.DONE, 500, 1)
        assert around.backend.calls["/v1/chat/completions"] == 2
        assert b"engine dead" in row.tail


async def test_an_error_of_the_request_as_the_first_event_is_a_real_error() -> None:
    sent = 'data: {"error": {"message": "too long", "code": 400}}\n\n'
    script = {"body": sent, "content_type": "text/event-stream"}
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit({"stream": True, "x_script": script})
        row = await around.ended(task)

        assert (row.state, row.status, row.attempt) == (State.DONE, 400, 1)
        assert row.content_type == "application/json"
        assert b"too long" in around.answer(task)


async def test_an_event_that_is_not_json_fails_the_answer_and_is_not_passed_on() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit({"stream": True, "x_script": {"malformed_event": True}})
        row = await around.ended(task)

        assert row.state is State.FAILED
        assert not around.answer(task).rstrip().endswith(b'[{"delta')


@pytest.mark.parametrize("rest", ["data: [DON", 'data: {"usage": {"prom'])
async def test_what_is_cut_after_the_last_choice_is_not_passed_on(rest: str) -> None:
    sent = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n' + rest
    script = {"body": sent, "content_type": "text/event-stream"}
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit({"stream": True, "x_script": script})
        row = await around.ended(task)

        assert row.state is State.DONE
        assert around.answer(task).endswith(b'"stop"}]}\n\n')


async def test_a_stream_tells_of_its_usage_though_its_client_did_not_ask() -> None:
    async with world(Backend(script=QUICK)) as around:
        row = await ask(around, {}, body={"stream": True})

        request = json.loads(around.backend.bodies[-1])
        assert {"include_usage": True} == request["stream_options"]
        assert 4 == around.store.outcomes[row.ref].usage["completion_tokens"]
        assert b'"usage"' not in around.answer(row)


async def test_a_backend_that_knows_no_usage_of_a_stream_is_asked_without() -> None:
    async with world(Backend(script=QUICK)) as around:
        around.backend.refuses_stream_options = True
        rows = [await ask(around, {}, body={"stream": True}) for _ in range(2)]

        assert [(State.DONE, 200, 1)] * 2 == [(row.state, row.status, row.attempt) for row in rows]
        assert 3 == around.backend.calls.total()
        assert b"stream_options" not in around.backend.bodies[-1]


async def test_a_refusal_of_the_clients_own_options_is_told() -> None:
    async with world(Backend(script=QUICK)) as around:
        around.backend.refuses_stream_options = True
        options = {"stream_options": {"mine": 1}}
        row = await ask(around, {}, body={"stream": True, **options})

        assert (State.DONE, 400, 1) == (row.state, row.status, row.attempt)
        assert 2 == around.backend.calls.total()


STREAM = "text/event-stream"
A = 'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
STOP = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = "data: [DONE]\n\n"


async def streamed(
    around: World,
    sent: str,
    *,
    kind: str = STREAM,
    path: str = "/v1/chat/completions",
    attempts: int = 2,
    **more: Any,
) -> tuple[Task, str]:
    """Return the row of a task whose backend sends these bytes."""
    script = {"body": sent, "content_type": kind}
    body = {"stream": True, "x_script": script, **more}
    task = await around.submit(body, path=path, attempts=attempts)
    row = await around.ended(task)
    return row, around.answer(task).decode()


#: Slow enough for a reader to have seen what came first.
SLOW = Script(first=0.01, interval=0.1, tokens=8)


async def broken(around: World, sent: str, path: str = "/v1/chat/completions") -> tuple[str, str]:
    """Return the bytes that a client gets before the error in a stream, and the error's event."""
    script = {"error_event_after": 3, "error_event": sent}
    body = {"stream": True, "input": "i", "max_tokens": 8, "prompt": "p", "x_script": script}
    task = await around.submit(body, path=path, attempts=1)
    row = await around.ended(task)
    assert (State.DONE, 200, 1) == (row.state, row.status, row.attempt)
    begun, data, error_event = around.answer(task).decode().removesuffix(DONE).rpartition("data: ")
    return begun, data + error_event


@pytest.mark.parametrize("end", ["", DONE, A.replace("null", '""') + DONE, A[:-40]])
async def test_a_stream_without_a_reason_to_end_is_no_whole_answer(end: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, A + end)

        assert State.FAILED is row.state
        assert "[DONE]" not in answer


async def test_a_stream_whose_events_all_have_an_empty_reason_ends_with_a_real_one() -> None:
    sent = A.replace("null", '""') * 3 + STOP + DONE
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, sent)

        assert (State.DONE, 200, sent) == (row.state, row.status, answer)


@pytest.mark.parametrize("end", [DONE, ""])
async def test_one_choice_of_a_server_that_knows_no_n_is_a_whole_answer(end: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, A + STOP + end, n=2)

        assert (State.DONE, 200, 1) == (row.state, row.status, row.attempt)
        assert A + STOP + end == answer


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ('error: {"code":400,"message":"too long","type":"invalid_request_error"}\n\n', STREAM),
        ('{"error":{"message":"too long","code":400}}', STREAM),
        ('{\n  "error": {\n    "message": "too long",\n    "code": "400"\n  }\n}\n', STREAM),
        ('data: {"type":"error","code":400,"message":"too long"}\n\n' + DONE, STREAM),
        ('data: {"object":"error","message":"too long","code":400}\n\n', STREAM),
        ('data: {"error":["too long"],"status":400}\n\n', STREAM),
        ('event: error\ndata: {"message":"too long","type":"BadRequestError"}\n\n', STREAM),
        ('data:   {"error":{"message":"too long","code":400}}  \n\n', STREAM),
        ('data: {"error":{"message":"too long","code":400},"choices":[{}]}\n\n', STREAM),
        ('data: {"error":{"message":"too long","code":400}}\n\n', "application/json"),
        ('data: {"error":{"message":"too long","code":400}}\n\n', "text/plain"),
        ('{"error":{"message":"too long","code":400}}\n', "text/plain"),
        ('[{"error":{"message":"too long","code":400}}]', "application/json"),
        ('{"error":{"message":"too long","code":400}}\n', "application/x-ndjson"),
    ],
)
async def test_an_error_is_told_as_what_it_is_however_it_comes(sent: str, kind: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, sent, kind=kind)

        assert (State.DONE, 400, 1) == (row.state, row.status, row.attempt)
        assert "application/json" == row.content_type
        assert "too long" == json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("form", ['data: {"detail":[{"loc":["n"],"msg":"odd"}]}', '{"detail":[7]}'])
async def test_what_the_client_can_mend_is_told_at_once(form: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, form + "\n\n")

        assert (State.DONE, 422, 1) == (row.state, row.status, row.attempt)
        assert {"message", "type", "param", "code"} <= json.loads(answer)["error"].keys()


@pytest.mark.parametrize(
    "sent",
    [
        'data: {"type":"error","code":"x","message":"no memory"}\n\n',
        'event: error\ndata: {"error":{"message":"no memory"}}\n\n',
        "event: error\ndata: no memory\n\n",
        'error: {"message":"no memory"}\n\n',
        '{"error":"no memory"}\n\n',
        'data: {"detail":"no memory"}\n\n',
    ],
)
async def test_an_error_in_the_middle_is_told_as_clients_read_it(sent: str) -> None:
    async with world(Backend(script=SLOW)) as around:
        begun, error_event = await broken(around, sent)

        assert "choices" in begun
        error = json.loads(error_event.removeprefix("data: "))["error"]
        assert "no memory" == error["message"]
        assert {"message", "type", "param", "code"} <= error.keys()


@pytest.mark.parametrize("reason", ["error", "abort"])
async def test_a_reason_that_tells_of_a_failure_is_followed_by_an_error(reason: str) -> None:
    last = STOP.replace("stop", reason)
    async with world(Backend(script=SLOW)) as around:
        begun, error_event = await broken(around, last)

        assert begun.endswith(last)
        assert reason in json.loads(error_event.removeprefix("data: "))["error"]["message"]


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/messages", "event: error\n"), ("/v1/responses", "")]
)
async def test_an_error_is_told_in_the_shape_of_its_stream(path: str, name: str) -> None:
    async with world(Backend(script=SLOW)) as around:
        begun, error_event = await broken(
            around, 'data: {"error":{"message":"no memory"}}\n\n', path
        )

        document = json.loads(error_event.removeprefix("data: "))
        assert ("error", "no memory") == (document["type"], document["error"]["message"])
        assert begun.endswith(name)


async def test_an_error_behind_what_nobody_has_seen_is_a_real_one() -> None:
    async with world(Backend(script=QUICK)) as around:
        sent = 'data: {"error":{"message":"too long","code":400}}\n\n'
        row, answer = await streamed(around, A + sent)

        assert (State.DONE, 400, 1) == (row.state, row.status, row.attempt)
        assert "too long" == json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
async def test_a_stream_is_one_whatever_it_is_called(kind: str) -> None:
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, A + STOP + DONE, kind=kind)

        assert (State.DONE, 200, A + STOP + DONE) == (row.state, row.status, answer)
        assert "text/event-stream; charset=utf-8" == row.content_type


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/json", STREAM])
async def test_a_stream_of_json_a_line_becomes_one_of_events(kind: str) -> None:
    lines = (A + STOP).replace("data: ", "").replace("\n\n", "\n")
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, lines, kind=kind)

        assert (State.DONE, 200, A + STOP) == (row.state, row.status, answer)


async def test_an_answer_that_is_no_chat_is_not_taken_for_a_stream() -> None:
    async with world(Backend(script=QUICK)) as around:
        sent = '{"embedding":[1]}\n{"embedding":[2]}\n'
        row, _ = await streamed(around, sent, kind="application/json", path="/v1/embeddings")

        assert State.FAILED is row.state


async def test_spaces_around_the_json_of_an_event_are_none_of_it() -> None:
    sent = A.replace("data: {", "data:   {") + STOP.replace("}\n", "} \n") + "data:  [DONE] \n\n"
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, sent)

        assert (State.DONE, 200) == (row.state, row.status)
        assert answer.endswith("\n\n" + DONE)


@pytest.mark.parametrize("choices", ["", '"choices":null,', '"choices":[],'])
async def test_an_event_of_usage_alone_is_kept_from_who_did_not_ask(choices: str) -> None:
    usage = f'data: {{{choices}"usage":{{"prompt_tokens":3,"completion_tokens":1}}}}\n\n'
    async with world(Backend(script=QUICK)) as around:
        row, answer = await streamed(around, A + STOP + usage + DONE)

        assert A + STOP + DONE == answer
        assert 3 == around.store.outcomes[row.ref].usage["prompt_tokens"]
