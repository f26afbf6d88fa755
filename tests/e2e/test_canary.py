"""
What is asked and answered is nowhere but in the queues, the tasks table and the bucket: canaries go
through every success, every error and every function, and are looked for in all that was written.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import pytest
from playwright.sync_api import Response, sync_playwright

from inferline import errors
from inferline.errors import InferLineError
from inferline.queue import Message
from inferline.task import TaskRef
from tests.dashboard.conftest import FLAGS, chromium
from tests.support.cloud import recorded
from tests.support.emulators import free_port
from tests.support.line import get_json, until
from tests.support.mouth import HEADERS
from tests.support.stage import (
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
    staged,
    wait,
)

pytestmark = pytest.mark.timeout(170)

LARGE_BYTES = 300_000
FAULTY, BROKEN = "gateway with a fault", "gateway that loses its bucket"
PAGE = "the page in a browser"
#: What a gateway tells whoever has a key.
TOLD = (
    *("/v1/models", "/v1/providers", "/v1/overview", "/v1/queue/stats", "/metrics"),
    *(f"/v1/overview/hour?model={MODEL}", "/v1/usage?by=model,key", "/v1/usage/requests"),
)
#: Enough for all scenes to be among them.
SPANS_MIN = 20
#: Each place, and of what it tells something.
ANY_MODEL = tuple(name.encode() for name in (MODEL, BAD, HELD, IDLE, FULL))
PLACES = {
    **dict.fromkeys((QUEUE, TASKS, BUCKET, REGISTRY, PAGE, "traces", "commands"), ANY_MODEL),
    **{f"{path}, told to the client": ANY_MODEL for path in TOLD},
    **{f"log of {name}": ANY_MODEL for name in ("provider", "the function inference")},
    "log of the function sweep": (b"OldestTaskSeconds",),
    "log of gateway": (b"serves 1 models",),
    f"log of {FAULTY}": (b"failed unforeseen",),
    "log of the function dead_letters": (b"none of ours",),
    "metrics of a provider": ANY_MODEL,
    "errors of functions": (b"Unauthorized",),
    ERRORS: ANY_MODEL,
    HEADERS: (b"Bearer",),
}
PLANTED = "what a gateway with a fault tells"
#: A stream that fails, or a failed answer to one that is none.
Scene = Callable[[Stage], httpx.Response]

#: A scene for each error that a client can meet.
SCENES: dict[type[InferLineError], Scene] = {}
#: Groups, which nobody raises, and what is between a provider and the store.
NOT_MET = {errors.RequestError, errors.CapacityError, errors.TaskError, errors.LeaseLost}
ALL_ERRORS = {
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, InferLineError)
}


def meets(error: type[InferLineError]) -> Callable[[Scene], Scene]:
    """The scene leads to that error."""

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


@meets(errors.LimitExceeded)
def too_many_answers(stage: Stage) -> httpx.Response:
    return stage.post({"model": MODEL, "n": 10_000, "prompt": stage.aviary.fly("a bold prompt")})


@meets(errors.NotAuthenticated)
def an_unknown_key(stage: Stage) -> httpx.Response:
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
    return stage.call("DELETE", f"/v1/keys/{stage.aviary.fly('an id of a key')}", key="admin")


@meets(errors.MethodNotAllowed)
def a_wrong_method(stage: Stage) -> httpx.Response:
    return stage.call("PUT", f"{CHAT}?q={stage.aviary.fly('a query')}", {"model": MODEL})


@meets(errors.BodyTooLarge)
def too_large(stage: Stage) -> httpx.Response:
    return stage.post({"prompt": stage.aviary.fly("far too much") * 60_000})


@meets(errors.QueueFull)
def a_full_queue(stage: Stage) -> httpx.Response:
    sqs, url = stage.aws("sqs"), stage.queue_url(FULL)
    text = Message(ref=TaskRef("full", "t"), body=stage.aviary.fly("a crowd", QUEUE).encode()).dumps()
    for _ in range(3):
        entries = [{"Id": str(i), "MessageBody": text} for i in range(10)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def refused() -> httpx.Response | None:
        answer = stage.post(stage.chat("a full queue", model=FULL))
        return answer if answer.status_code == 429 else None

    found: httpx.Response = wait(refused, "the queue counts as full")
    return found


# What a task ends with.


@meets(errors.NoProvider)
def nobody_serves(stage: Stage) -> httpx.Response:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(stage.post, stage.chat("a wait in vain", model=IDLE))
        wait(lambda: stage.row_of(IDLE), "the task waits")
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
    """Successes of every kind, and what of a request's headers nobody reads."""
    names = ("cookie", "baggage", "tracestate", "user-agent", "openai-organization", "x-forwarded-for")
    unread = {name: f"k={stage.aviary.fly(f'the header {name}')}" for name in names}
    query = f"{CHAT}?q={stage.aviary.fly('a query of a success')}"
    stage.post(stage.chat("a success", user="me"), headers=unread, path=query)
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


def refusals(stage: Stage) -> None:
    """What an LLM server says instead of an answer; that it refuses a key comes last."""
    stage.post(stage.chat("a refusal", "refusal"))
    for says in ("fault", "busy", "key"):
        recovers(stage)
        stage.post(stage.chat(says, says, BAD), headers={"x-stainless-timeout": "2"})


def failures_as_told(stage: Stage) -> None:
    """What a provider says of a task that it gives up: its client hears it, and nobody else."""
    word = stage.aviary.fly("a failure in a provider's words", TASKS)
    error = {"message": {"S": word}, "code": {"S": word}, "status": {"N": "502"}}
    held(stage, error={"M": error}, state={"S": "FAILED"})


def recovers(stage: Stage) -> None:
    """Have the LLM server that fails be trusted again."""
    stage.post(stage.chat("a recovery", model=BAD))


def held(stage: Stage, **row: Any) -> httpx.Response:
    """What the client gets whose task's row a provider writes as it likes."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(stage.post, stage.chat("a held task", model=HELD))
        found = wait(lambda: stage.row_of(HELD), "the task waits")
        stage.change(found, token={"S": "t"}, **row)
        return asked.result()


def functions(stage: Stage) -> None:
    """All functions that see a key, a prompt or an answer."""
    letter = stage.aviary.fly("a dead letter", QUEUE)
    dead = stage.aws("sqs").get_queue_url(QueueName="inferline-dead-letters")["QueueUrl"]
    texts = [letter, Message(ref=TaskRef("m", "t"), body=letter.encode()).dumps(), f'{{"v":"{letter}"}}']
    for text in texts:
        stage.aws("sqs").send_message(QueueUrl=dead, MessageBody=text)
    event = recorded("sqs")
    [record] = event["Records"]
    event["Records"] = [record | {"messageId": f"m{i}", "body": t} for i, t in enumerate(texts)]
    stage.invoke("dead_letters", event)
    stage.invoke("sweep", recorded("scheduled"))
    shown = [stage.keys["client"], f"il_{stage.aviary.fly('a key at the edge')}"]
    told = [{"headers": {"Authorization": f"Bearer {text}"}} for text in shown]
    stage.invoke("authorizer", *(recorded("authorizer", **one) for one in told))
    bodies = [stage.chat("a function", says) for says in ("plain", "refusal", "page")]
    wrong = stage.aviary.fly("hostile JSON at the edge")
    events = [recorded("rest", body=text) for text in (*map(json.dumps, bodies), wrong)]
    stage.invoke("inference", *events)
    stage.invoke("control", recorded("rest", path="/v1/overview", httpMethod="GET", body=None))


#: What shares something is played in this order, and everything else at once.
IN_TURN: tuple[tuple[Callable[[Stage], Any], ...], ...] = (
    (garbage, a_broken_stream, refusals),
    (functions,),
    (failures_as_told, a_hostile_provider, a_hostile_provider_again),
    (no_bucket, a_gateway_that_stops),
    (answers,),
)


def play(stage: Stage) -> dict[type[InferLineError], httpx.Response]:
    """All scenes; what each led to."""
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


def start_others(stage: Stage) -> None:
    """The gateways that something befalls."""
    start_gateway(stage, BROKEN, "inferline", INFERLINE_BODIES_BUCKET="lost")
    stage.aws("s3").delete_bucket(Bucket="lost")
    start_gateway(stage, FAULTY, "tests.support.faulty")


def start_gateway(stage: Stage, name: str, module: str, **environ: str) -> None:
    """A gateway beside the line's."""
    port = str(free_port())
    told = {"INFERLINE_DRAIN_SECONDS": "0.3", **environ}
    part = stage.line.start(name, module, "gateway", "--port", port, environ=told)
    url = f"http://127.0.0.1:{port}"
    until(lambda: get_json(f"{url}/health"), f"the {name} is up")
    stage.others[name] = url, part


def look_at_the_page(stage: Stage) -> None:
    """Visit all views of the dashboard, as somebody with a key."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page()
        page.on("response", lambda response: note(stage, response))
        page.goto(f"{stage.line.url}/dashboard/")
        page.fill("#key-field", stage.keys["client"])
        page.click("#key-form button[type=submit]")
        page.wait_for_selector(f"#models >> text={MODEL}")
        for view in ("", f"#/models/{MODEL}", f"#/models/{BAD}", f"#/playground/{MODEL}"):
            page.evaluate("(at) => { location.hash = at; }", view)
            page.wait_for_timeout(300)
            stage.aviary.saw(PAGE, page.content())
            stage.aviary.saw(PAGE, page.inner_text("body"))
        browser.close()


def note(stage: Stage, response: Response) -> None:
    stage.aviary.saw(PAGE, json.dumps(response.headers))
    if response.status < 300:
        stage.aviary.saw(PAGE, response.body())


def ask_for_all(stage: Stage) -> None:
    """What anybody with a key is told."""
    for key in ("client", "other"):
        for path in TOLD:
            answer = stage.call("GET", path, key=key)
            assert 200 == answer.status_code, path
            stage.aviary.saw(f"{path}, told to the {key}", answer.content)
    for url in stage.told:
        stage.aviary.saw("metrics of a provider", stage.client.get(f"{url}/metrics").content)
    stage.call("GET", "/v1/keys", key="admin")
    stage.run("status")
    stage.run("usage", "--requests")


@dataclass(frozen=True)
class Flown:
    """What became of it all."""

    stage: Stage
    met: dict[type[InferLineError], httpx.Response]

    @cached_property
    def sightings(self) -> dict[str, set[str]]:
        """Where each canary was seen."""
        return self.stage.aviary.sightings()


@pytest.fixture(scope="module")
def flown() -> Iterator[Flown]:
    """The line after all scenes, with everything that was written anywhere."""
    with staged() as stage:
        start_others(stage)
        met = play(stage)
        for answer in met.values():
            stage.aviary.saw(ERRORS, json.dumps(dict(answer.headers)))
            stage.aviary.saw(ERRORS, error_of(answer))
        word = stage.aviary.fly(PLANTED, QUEUE)
        stage.post({"model": MODEL, "x_scene": "plain", "x_fault": "leak", "prompt": word}, at=FAULTY)
        ask_for_all(stage)
        look_at_the_page(stage)
        until(lambda: len(stage.collector.spans) > SPANS_MIN, "traces are exported")
        for part in stage.line.parts[:0:-1]:  # Who ends writes down what it still has in memory.
            part.stop()
        stage.aviary.saw("traces", b"".join(stage.collector.raw))
        stage.look_into_tables()
        stage.look_into_queues()
        stage.look_into_bucket()
        stage.look_into_logs()
        yield Flown(stage, met)


def error_of(answer: httpx.Response) -> str:
    """The error that a client was told, in whatever form, as JSON; empty for none."""
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line[:6] == "data: "]
    told = json.loads(events[-1] if events else answer.text)
    return json.dumps(told.get("error") or {})


def test_every_error_has_its_scene() -> None:
    assert ALL_ERRORS - NOT_MET == SCENES.keys()


@pytest.mark.parametrize("error", SCENES, ids=lambda error: error.__name__)
def test_its_scene_leads_to_the_error(flown: Flown, error: type[InferLineError]) -> None:
    assert error.code == json.loads(error_of(flown.met[error]))["code"], flown.met[error].text


def test_no_canary_is_where_it_may_not_be(flown: Flown) -> None:
    strays = [stray for stray in flown.stage.aviary.strays() if stray[0] != PLANTED]

    assert [] == sorted(strays)


def test_what_is_kept_is_where_it_is_to_be(flown: Flown) -> None:
    assert {QUEUE} == flown.sightings["prompt in a wait in vain"]
    assert {BUCKET} == flown.sightings["a large prompt"]
    assert {TASKS} == flown.sightings["what a hostile provider writes"]
    said = [what for what in flown.sightings if what.startswith("the LLM server's ")]
    kinds = {what.split()[3] for what in said if TASKS in flown.sightings[what]}
    assert {"answer", "stream", "refusal", "nonsense"} <= kinds


def test_a_leak_is_found(flown: Flown) -> None:
    assert {f"log of {FAULTY}"} == {
        place for what, place in flown.stage.aviary.strays() if what == PLANTED
    }


@pytest.mark.parametrize("place", PLACES)
def test_each_place_was_looked_into(flown: Flown, place: str) -> None:
    """Something that may be told is found there: the name of a model, or the id of a task."""
    written = b"".join(flown.stage.aviary.places[place])

    assert any(word in written for word in PLACES[place])
