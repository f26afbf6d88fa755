"""Scenes for canaries: every success, every error and every function, on a stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from inferline import errors
from inferline.errors import InferLineError
from inferline.tasks.queue import Message
from inferline.tasks.task import TaskRef
from tests.support.canary_line import (
    BAD,
    BUCKET,
    CHAT,
    ERRORS,
    FULL,
    HELD,
    IDLE,
    MODEL,
    QUEUE,
    REGISTRY,
    TASKS,
    Stage,
    wait,
)
from tests.support.cloud import recorded
from tests.support.forms import FORM, field, file, form
from tests.support.leaky_backend import HEADERS

LARGE_BYTES = 300_000
FAULTY, BROKEN = "gateway with a fault", "gateway that loses its bucket"
#: A stream that fails, or a failed answer to one that is none.
Scene = Callable[[Stage], httpx.Response]

#: A scene for each error that a client can meet.
SCENES: dict[type[InferLineError], Scene] = {}


def meets(error: type[InferLineError]) -> Callable[[Scene], Scene]:
    """Return the scene leads to that error."""

    def note(scene: Scene) -> Scene:
        SCENES[error] = scene
        return scene

    return note


# What is refused before there is a task.


@meets(errors.InvalidRequest)
def hostile_json(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("hostile JSON").encode()
    for body in (word, b'{"' + word, b'["' + word + b'"]', b'{"model":"m","x":"\\ud800' + word):
        stage.post(body)
    return stage.post(f'{{"model": "{MODEL}", "stream": "{word.decode()}"}}'.encode())


@meets(errors.FieldNotAllowed)
def a_template(stage: Stage) -> httpx.Response:
    return stage.post({"model": MODEL, "chat_template": stage.aviary.fly("a template")})


@meets(errors.AddressNotAllowed)
def an_address(stage: Stage) -> httpx.Response:
    url = f"http://{stage.aviary.fly('an address')}.example/picture.png"
    part = {"type": "image_url", "image_url": {"url": url}}
    return stage.post({"model": MODEL, "messages": [{"role": "user", "content": [part]}]})


@meets(errors.SizeLimitExceeded)
def too_many_answers(stage: Stage) -> httpx.Response:
    return stage.post({"model": MODEL, "n": 10_000, "prompt": stage.aviary.fly("a bold prompt")})


@meets(errors.NotAuthenticated)
def an_unknown_key(stage: Stage) -> httpx.Response:
    for name in ("x-api-key", "api-key"):
        text = f"il_{stage.aviary.fly(f'a made-up key in {name}')}"
        stage.post({"model": MODEL}, headers={"authorization": "", name: text})
    other = {"x-api-key": f"il_{stage.aviary.fly('another key than before')}"}
    stage.post({"model": MODEL}, headers=other)
    return stage.post({"model": MODEL}, key=f"il_{stage.aviary.fly('a made-up key')}")


@meets(errors.NotPermitted)
def a_providers_token(stage: Stage) -> httpx.Response:
    return stage.post({"model": MODEL, "prompt": stage.aviary.fly("a trespass")}, key="provider")


@meets(errors.NotFound)
def no_address(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("an address of ours")
    return stage.call("GET", f"/v1/{word}?q={word}")


@meets(errors.ModelNotFound)
def no_model(stage: Stage) -> httpx.Response:
    return stage.post({"model": stage.aviary.fly("a name of a model", ERRORS)})


@meets(errors.TaskNotFound)
def no_task(stage: Stage) -> httpx.Response:
    return stage.call("GET", f"/v1/tasks/{stage.aviary.fly('an id of a task')}")


@meets(errors.KeyNotFound)
def no_key(stage: Stage) -> httpx.Response:
    return stage.call(
        "DELETE", f"/v1/keys/{stage.aviary.fly('an id of a key', ERRORS)}", key="admin"
    )


@meets(errors.BatchNotFound)
def batches(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("the lines of a batch", BUCKET)
    wrong = json.dumps({"custom_id": word, "url": word, "body": {word: word}}) + f'\n{{"{word}"'
    upload = form(file(value=wrong.encode(), filename="f"), field("purpose", "batch"))
    sent = stage.post(upload, path="/v1/files", headers={"content-type": FORM})
    batch = {
        "input_file_id": sent.json()["id"],
        "endpoint": CHAT,
        "completion_window": "24h",
        "metadata": {"m": stage.aviary.fly("metadata of a batch", REGISTRY)},
    }
    path = f"/v1/batches/{stage.post(batch, path='/v1/batches').json()['id']}"
    wait(lambda: stage.call("GET", path).json()["status"] == "failed", "a failed batch")
    assert word not in stage.call("GET", path).text
    stage.post({**batch, "endpoint": stage.aviary.fly("an endpoint")}, path="/v1/batches")
    return stage.call("GET", f"/v1/batches/{stage.aviary.fly('an id of a batch', ERRORS)}")


@meets(errors.FileNotFound)
def files(stage: Stage) -> httpx.Response:
    lines = stage.aviary.fly("the lines of a file", BUCKET).encode()
    name = stage.aviary.fly("the name of a file", REGISTRY)
    upload, headers = file(value=lines, filename=name), {"content-type": FORM}
    sent = stage.post(form(upload, field("purpose", "batch")), path="/v1/files", headers=headers)
    stage.call("GET", f"/v1/files/{sent.json()['id']}/content")
    wrong = field("purpose", stage.aviary.fly("a purpose that is none"))
    stage.post(
        form(wrong, file(filename=stage.aviary.fly("a refused file"))),
        path="/v1/files",
        headers=headers,
    )
    return stage.call("GET", f"/v1/files/{stage.aviary.fly('an id of a file')}")


@meets(errors.MethodNotAllowed)
def a_wrong_method(stage: Stage) -> httpx.Response:
    return stage.call("PUT", f"{CHAT}?q={stage.aviary.fly('a query')}", {"model": MODEL})


@meets(errors.BodyTooLarge)
def too_large(stage: Stage) -> httpx.Response:
    return stage.post({"prompt": stage.aviary.fly("far too much") * 60_000})


@meets(errors.EncodingNotSupported)
def an_unknown_encoding(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("what is called compressed").encode()
    stage.post(b"\x1f\x8b" + word, headers={"content-encoding": "gzip"})
    return stage.post(word, headers={"content-encoding": "br"})


@meets(errors.UpgradeRefused)
def a_websocket(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("the name of a subprotocol")
    offer = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-protocol": word}
    return stage.call("GET", f"/v1/responses?q={word}", headers=offer)


@meets(errors.QueueFull)
def a_full_queue(stage: Stage) -> httpx.Response:
    sqs, url = stage.aws("sqs"), stage.queue_url(FULL)
    text = Message(
        ref=TaskRef("full", "t"), body=stage.aviary.fly("a crowd", QUEUE).encode()
    ).dumps()
    for _ in range(3):
        entries = [{"Id": str(i), "MessageBody": text} for i in range(10)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def refused() -> httpx.Response | None:
        answer = stage.post(stage.chat("a full queue", model=FULL))
        return answer if answer.status_code == 429 else None

    response: httpx.Response = wait(refused, "the queue counts as full")
    return response


@meets(errors.RequestsLimited)
def a_request_too_many(stage: Stage) -> httpx.Response:
    return limited(stage, "requests too many", requests_per_minute=1)


@meets(errors.TokensLimited)
def tokens_too_many(stage: Stage) -> httpx.Response:
    return limited(stage, "tokens too many", tokens_per_minute=1)


@meets(errors.QuotaExhausted)
def a_day_that_is_spent(stage: Stage) -> httpx.Response:
    return limited(stage, "a day that is spent", "garbled", tokens_per_day=2000)


def limited(stage: Stage, scene: str, says: str = "plain", **limits: int) -> httpx.Response:
    """
    Ask with a key of these limits until it is refused: a minute may end meanwhile. Who garbles what
    was used is charged for all that it might have been.
    """
    made = stage.call("POST", "/v1/keys", {"name": "limited", "limits": limits}, key="admin")
    for number in range(5):
        answer = stage.post(stage.chat(f"{scene}, {number}", says), key=made.json()["key"])
        if answer.status_code == 429:
            return answer
    raise AssertionError(f"never refused: {scene}")


# What a task ends with.


@meets(errors.NoProvider)
def nobody_serves(stage: Stage) -> httpx.Response:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(stage.post, stage.chat("a wait in vain", model=IDLE))
        waiting_row(stage, IDLE, asked)
        stage.look_into_queues()
        return asked.result()


@meets(errors.DeadlineExceeded)
def too_late(stage: Stage) -> httpx.Response:
    return stage.post(stage.chat("a hang", "hang"), headers={"x-stainless-timeout": "1"})


@meets(errors.TaskCancelled)
def cancelled(stage: Stage) -> httpx.Response:
    shown = {"authorization": f"Bearer {stage.keys['client']}"}
    body = stage.chat("a stream that is cancelled", "drip", stream=True)
    with stage.client.stream("POST", stage.line.url + CHAT, json=body, headers=shown) as one:
        stage.call("POST", f"/v1/tasks/{one.headers['x-request-id']}/cancel")
        one.read()
        return one


@meets(errors.ProviderFault)
def a_hostile_provider(stage: Stage) -> httpx.Response:
    word = stage.aviary.fly("what a hostile provider writes", TASKS)
    return held(
        stage,
        owner={"S": "hostile"},
        status={"N": "99"},
        content_type={"S": f"text/{word}"},
        tail={"B": word.encode()},
        state={"S": "DONE"},
    )


@meets(errors.Quarantined)
def a_hostile_provider_again(stage: Stage) -> httpx.Response:
    return stage.enrol("hostile", HELD)


@meets(errors.BackendRefused)
def a_page(stage: Stage) -> httpx.Response:
    return stage.post(stage.chat("a proxy's page", "page"))


@meets(errors.BackendFailed)
def garbage(stage: Stage) -> httpx.Response:
    return stage.post(stage.chat("garbage", "garbage", BAD))


@meets(errors.ProviderLost)
def a_broken_stream(stage: Stage) -> httpx.Response:
    recovers(stage)
    return stage.post(stage.chat("a broken stream", "break", BAD, stream=True))


@meets(errors.Unavailable)
def no_bucket(stage: Stage) -> httpx.Response:
    body = stage.chat("no bucket", padding="x" * LARGE_BYTES)
    return stage.post(body, at=BROKEN)


@meets(errors.GatewayStopping)
def a_gateway_that_stops(stage: Stage) -> httpx.Response:
    mouth, (_, part) = stage.mouths[MODEL], stage.others[BROKEN]
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(stage.post, stage.chat("a stop", "wait"), at=BROKEN)
        wait(lambda: "wait" in mouth.heard, "the task runs")
        part.process.terminate()
        return asked.result()


@meets(InferLineError)
def a_fault_of_ours(stage: Stage) -> httpx.Response:
    return stage.post({**stage.chat("a fault of ours"), "x_fault": "break"}, at=FAULTY)


@meets(errors.IdempotencyKeyReused)
def a_key_used_twice(stage: Stage) -> httpx.Response:
    once = {"idempotency-key": stage.aviary.fly("an idempotency key")}
    stage.post(stage.chat("a request with a key"), headers=once)
    return stage.post(stage.chat("another with the same key"), headers=once)


# And what is no error of ours.


def answers(stage: Stage) -> None:
    """Send successes of every kind, with headers that nobody reads."""
    names = (
        "cookie",
        "baggage",
        "tracestate",
        "user-agent",
        "openai-organization",
        "x-forwarded-for",
    )
    unread = {name: f"k={stage.aviary.fly(f'the header {name}')}" for name in names}
    query = f"{CHAT}?q={stage.aviary.fly('a query of a success', TASKS)}&key="
    query += stage.aviary.fly("a key in a query")
    stage.post(stage.chat("a success", user="me"), headers=unread, path=query)
    beta = {"anthropic-beta": stage.aviary.fly("a forwarded header", TASKS, HEADERS)}
    stage.post(stage.chat("a message", max_tokens=9), headers=beta, path="/v1/messages")
    forms(stage)
    whole = stage.post(stage.chat("a stream", "stream", stream=True))
    task = f"/v1/tasks/{whole.headers['x-request-id']}"
    for key in ("client", "other"):
        for path in (task, f"{task}/stream"):
            answer = stage.call("GET", path, key=key)
            if key == "other":
                stage.aviary.saw("answers to another tenant", answer.content)
    word = stage.aviary.fly("a large prompt", BUCKET)
    stage.post({"model": MODEL, "x_scene": "plain", "prompt": word + "x" * LARGE_BYTES})
    stage.post(stage.chat("nonsense", "garbled"))


def forms(stage: Stage) -> None:
    """Send a form that is passed on, a large one, and a broken one."""
    path, headers = "/v1/audio/transcriptions", {"content-type": FORM}
    for scene, more, place in (
        ("a form", b"", QUEUE),
        ("a large form", b"x" * LARGE_BYTES, BUCKET),
    ):
        prompt = field("prompt", stage.aviary.fly(f"the prompt of {scene}", place))
        sound = file(value=stage.aviary.fly(f"the sound of {scene}", place).encode() + more)
        sent = form(prompt, field("model", MODEL), sound)
        stage.post(sent, headers=headers, path=path)
    stage.post(field("model", stage.aviary.fly("a broken form")), headers=headers, path=path)


def refusals(stage: Stage) -> None:
    """Have an LLM server refuse in all ways; a refused key comes last."""
    stage.post(stage.chat("a refusal", "refusal"))
    for says in ("fault", "busy", "key"):
        recovers(stage)
        stage.post(stage.chat(says, says, BAD), headers={"x-stainless-timeout": "2"})


def a_fault_of_a_provider(stage: Stage) -> None:
    """Break an attempt: nobody renews its lease, so its client waits in vain."""
    body = {**stage.chat("a fault of a provider"), "x_fault": "break later"}
    stage.post(body, headers={"x-stainless-timeout": "1"})


def failures_as_told(stage: Stage) -> None:
    """Have a provider give up a task with words for its client alone."""
    word = stage.aviary.fly("a failure in a provider's words", TASKS)
    error = {"message": {"S": word}, "code": {"S": word}, "status": {"N": "502"}}
    held(stage, error={"M": error}, state={"S": "FAILED"})


def recovers(stage: Stage) -> None:
    """Have the LLM server that fails be trusted again."""
    stage.post(stage.chat("a recovery", model=BAD))


def held(stage: Stage, **row: Any) -> httpx.Response:
    """Return what the client gets whose task's row a provider writes as it likes."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(stage.post, stage.chat("a held task", model=HELD))
        stage.change(waiting_row(stage, HELD, asked), token={"S": "t"}, **row)
        return asked.result()


def waiting_row(stage: Stage, model: str, asked: Future[httpx.Response]) -> dict[str, Any]:
    """Return the row of the task that waits for an answer."""

    def look() -> dict[str, Any] | None:
        assert not asked.done(), asked.result().text
        return stage.row_of(model)

    row: dict[str, Any] = wait(look, "the task waits")
    return row


# The functions that see a key, a prompt or an answer.


def dead_letters(stage: Stage) -> None:
    word = stage.aviary.fly("a dead letter", QUEUE)
    ours = Message(ref=TaskRef("m", "t"), body=word.encode()).dumps()
    sqs, texts = stage.aws("sqs"), [word, ours, f'{{"v": "{word}"}}']
    url = sqs.get_queue_url(QueueName="inferline-dead-letters")["QueueUrl"]
    for text in texts:
        sqs.send_message(QueueUrl=url, MessageBody=text)
    event = recorded("sqs")
    [record] = event["Records"]
    event["Records"] = [record | {"messageId": f"m{i}", "body": t} for i, t in enumerate(texts)]
    stage.invoke("dead_letters", event)


def authorizer(stage: Stage) -> None:
    shown = [stage.keys["client"], f"il_{stage.aviary.fly('a key at the edge')}"]
    events = [{"multiValueHeaders": {"x-api-key": [text]}} for text in shown]
    stage.invoke("authorizer", *(recorded("authorizer", **one) for one in events))


def inference(stage: Stage) -> None:
    bodies = [stage.chat("a function", says) for says in ("plain", "refusal", "page")]
    wrong = stage.aviary.fly("hostile JSON at the edge")
    events = [recorded("rest", body=text) for text in (*map(json.dumps, bodies), wrong)]
    stage.invoke("inference", *events)


def control(stage: Stage) -> None:
    stage.invoke("control", recorded("rest", path="/v1/overview", httpMethod="GET", body=None))


def sweep(stage: Stage) -> None:
    stage.invoke("sweep", recorded("scheduled"))


#: What shares something is played in this order, and everything else at once.
IN_TURN: tuple[tuple[Callable[[Stage], Any], ...], ...] = (
    (garbage, a_broken_stream, refusals),
    *((scene,) for scene in (inference, authorizer, dead_letters, control, sweep)),
    (failures_as_told, a_hostile_provider, a_hostile_provider_again),
    (no_bucket, a_gateway_that_stops),
    (answers,),
    (a_fault_of_a_provider,),
)


def play(stage: Stage) -> dict[type[InferLineError], httpx.Response]:
    """Return all scenes; what each led to."""
    stage.enrol("ghost", IDLE, FULL)
    stage.call("DELETE", "/v1/providers/ghost", key="provider")
    stage.enrol("hostile", HELD)
    alone = [(scene,) for scene in SCENES.values() if scene not in {s for t in IN_TURN for s in t}]
    led: dict[Callable[[Stage], Any], Any] = {}

    def perform(turn: tuple[Callable[[Stage], Any], ...]) -> None:
        for scene in turn:
            led[scene] = scene(stage)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(perform, (*IN_TURN, *alone)))
    return {error: led[scene] for error, scene in SCENES.items()}
