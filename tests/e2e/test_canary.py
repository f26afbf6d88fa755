"""
What is asked and answered is nowhere but in the queues, the tasks table and the bucket: canaries go
through every success, every error and every function, and are looked for in all that was written.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import httpx
import pytest
from playwright.sync_api import Response, sync_playwright

from inferline import errors
from inferline.errors import InferLineError
from tests.dashboard.conftest import FLAGS, chromium
from tests.support.canary_cases import BROKEN, FAULTY, SCENES, play
from tests.support.canary_line import (
    BAD,
    BUCKET,
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
)
from tests.support.emulators import free_port
from tests.support.leaky_backend import HEADERS
from tests.support.line import get_json, until

pytestmark = pytest.mark.timeout(600)

#: Groups, which nobody raises, and what is between a provider and the store.
NOT_MET = {
    *(errors.RequestError, errors.CapacityError, errors.TaskError, errors.RateLimitReached),
    errors.LeaseLost,
}
ALL_ERRORS = {
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, InferLineError)
}
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
    "log of provider": (b"An attempt failed because of a bug in InferLine.",),
    "log of the function inference": ANY_MODEL,
    "log of the function sweep": (b"OldestTaskSeconds",),
    "log of gateway": (b"serves 1 models",),
    f"log of {FAULTY}": (b"failed unexpectedly",),
    "log of the function dead_letters": (b"none of ours",),
    "metrics of a provider": ANY_MODEL,
    "errors of functions": (b"Unauthorized",),
    ERRORS: ANY_MODEL,
    HEADERS: (b"Bearer",),
}
PLANTED = "what a gateway with a fault tells"


def start_others(stage: Stage) -> None:
    """Start the gateways that something happens to."""
    start_gateway(stage, BROKEN, "inferline", INFERLINE_BODIES_BUCKET="lost")
    start_gateway(stage, FAULTY, "tests.support.faulty")
    for name, (url, _) in stage.others.items():
        until(lambda url=url: get_json(f"{url}/health"), f"the {name} is up")  # type: ignore[misc]
    stage.aws("s3").delete_bucket(Bucket="lost")


def start_gateway(stage: Stage, name: str, module: str, **environ: str) -> None:
    """Start a gateway beside the line's."""
    port = str(free_port())
    settings = {"INFERLINE_DRAIN_SECONDS": "0.3", **environ}
    part = stage.line.start(name, module, "gateway", "--port", port, environ=settings)
    stage.others[name] = f"http://127.0.0.1:{port}", part


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
    """Ask for everything that anybody with a key may read."""
    for key in ("client", "other"):
        for path in TOLD:
            answer = stage.call("GET", path, key=key)
            assert 200 == answer.status_code, path
            stage.aviary.saw(f"{path}, told to the {key}", answer.content)
    for url in stage.printed:
        stage.aviary.saw("metrics of a provider", stage.client.get(f"{url}/metrics").content)
    stage.call("GET", "/v1/keys", key="admin")
    stage.run("status")
    stage.run("usage", "--requests")


@dataclass(frozen=True)
class Flown:
    """Results of the whole flight."""

    stage: Stage
    met: dict[type[InferLineError], httpx.Response]

    @cached_property
    def sightings(self) -> dict[str, set[str]]:
        """Return where each canary was seen."""
        return self.stage.aviary.sightings()


@pytest.fixture(scope="module")
def flown() -> Iterator[Flown]:
    """Yield the line after all scenes, with everything that was written anywhere."""
    with staged(start_others) as stage:
        met = play(stage)
        for answer in met.values():
            stage.aviary.saw(ERRORS, json.dumps(dict(answer.headers)))
            stage.aviary.saw(ERRORS, error_of(answer))
        word = stage.aviary.fly(PLANTED, QUEUE)
        stage.post(
            {"model": MODEL, "x_scene": "plain", "x_fault": "leak", "prompt": word}, at=FAULTY
        )
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
    """Return the error that a client was told, in whatever form, as JSON; empty for none."""
    events = [
        line.removeprefix("data: ") for line in answer.text.splitlines() if line[:6] == "data: "
    ]
    document = json.loads(events[-1] if events else answer.text)
    return json.dumps(document.get("error") or {})


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
