"""
Every call that a gateway or a provider makes to AWS fails once in each way, and no client suffers.

The tests take one call of each kind for each way; `make chaos` takes them all.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.chaos.asking import AskFor, calls_of, done
from tests.chaos.backend import MODEL
from tests.chaos.faults import FAULTS, Bend, Fault
from tests.chaos.oracle import Outcome
from tests.chaos.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Whether to try each fault at each site; `make chaos` sets it.
EVERY_SITE = bool(os.environ.get("CHAOS_EVERY_SITE"))

GATEWAYS, PROVIDERS = 1, 1
CHANGES = {"no_provider_seconds": 1.5}

_names = (f"made-{number}" for number in itertools.count())

Stir = Callable[[World, AskFor], Awaitable[None]]


def is_answer(outcome: Outcome) -> None:
    assert ("ok", []) == (outcome.end, outcome.wrongs), outcome


async def short(world: World, ask: AskFor) -> None:
    before = await calls_of(world)

    is_answer(await ask())

    assert before + 1 == await calls_of(world)


async def large(world: World, ask: AskFor) -> None:
    is_answer(await ask(prompt_chars=20_000, streamed=False))


async def keyed(world: World, ask: AskFor) -> None:
    is_answer(await ask(comes_back="has a key"))


async def left(world: World, ask: AskFor) -> None:
    outcome = await ask(tokens=200, interval=0.05, leaves_after=0.6)

    assert "left" == outcome.end
    async with asyncio.timeout(60):
        while (await world.remains()).running:  # noqa: ASYNC110  # it is elsewhere
            await asyncio.sleep(0.05)


async def unserved(world: World, ask: AskFor) -> None:
    """Enrol a model that nobody serves any more."""
    name = next(_names)
    await enrolled(world, name)
    await gone(world, name)
    asked = {"model": name, "prompt": "p"}
    async with world.http.post(world.urls["g0"] + "/v1/completions", json=asked) as answer:
        answered = await answer.json()

    assert (503, "no_provider_available") == (answer.status, answered["error"]["code"])


async def tried_again(world: World, ask: AskFor) -> None:
    is_answer(await ask(script=(("status", 429), ("times", 1), ("retry_after", 1))))


async def continued(world: World, ask: AskFor) -> None:
    script = (("abort_after_tokens", 15), ("times", 1))

    outcome = await ask(tokens=20, interval=0.02, script=script)

    is_answer(outcome)
    assert 2 == outcome.runs


async def given_up(world: World, ask: AskFor) -> None:
    """Ask for probabilities: no other attempt can continue such an answer."""
    script = (("abort_after_tokens", 15), ("times", 1))

    outcome = await ask(tokens=20, interval=0.02, script=script, extra=(("logprobs", 1),))

    assert ("error", "provider_lost", []) == (outcome.end, outcome.code, outcome.wrongs)


async def enrolling(world: World, ask: AskFor) -> None:
    name = next(_names)
    await enrolled(world, name)
    await gone(world, name)


async def enrolled(world: World, name: str) -> None:
    """Enrol as a provider does: until it is taken."""
    enrolment = {"id": name, "version": "1", "slots": 1, "models": [{"id": name}]}
    await _until_taken(world, "POST", "/v1/providers", 200, enrolment)


async def gone(world: World, name: str) -> None:
    await _until_taken(world, "DELETE", f"/v1/providers/{name}", 204, None)


async def _until_taken(world: World, method: str, path: str, wanted: int, body: Any) -> None:
    for _ in range(3):
        async with world.http.request(method, world.urls["g0"] + path, json=body) as answer:
            if answer.status == wanted:
                return
            assert 503 == answer.status
    raise AssertionError("it was not taken")


#: Who calls, for what, and how the call comes about; by kind of call, five of a kind at most.
SITES: dict[str, tuple[tuple[str, str, Stir], ...]] = {
    "the gateway writes a task": (
        ("g0", "tasks submit", short),
        ("g0", "tasks submit once", keyed),
        ("g0", "tasks cancel", left),
        ("g0", "tasks expire", unserved),
    ),
    "the gateway reads a task": (
        ("g0", "tasks read", short),
        ("g0", "tasks bound", keyed),
    ),
    "the gateway sends a message": (("g0", "sqs SendMessage", short),),
    "the gateway writes a body": (("g0", "s3 PUT object", large),),
    "the gateway makes a queue": (
        ("g0", "sqs GetQueueUrl", enrolling),
        ("g0", "sqs CreateQueue", enrolling),
        ("g0", "sqs GetQueueAttributes", enrolling),
    ),
    "the gateway keeps the registry": (
        ("g0", "registry put model", enrolling),
        ("g0", "registry put provider", enrolling),
        ("g0", "registry get provider", enrolling),
        ("g0", "registry DeleteItem", enrolling),
    ),
    "the provider moves a message": (
        ("p0", "sqs ReceiveMessage", short),
        ("p0", "sqs DeleteMessageBatch", short),
        ("p0", "sqs ChangeMessageVisibilityBatch", tried_again),
    ),
    "the provider writes a task": (
        ("p0", "tasks claim", short),
        ("p0", "tasks chunks", short),
        ("p0", "tasks finish", short),
        ("p0", "tasks hand back", tried_again),
        ("p0", "tasks fail", given_up),
    ),
    "the provider reads a task": (("p0", "tasks read", continued),),
    "the provider reads a body": (("p0", "s3 GET object", large),),
}


def cases() -> Iterator[tuple[str, str, Stir, Fault]]:
    """Yield each fault of each kind of call, at one site in turn or, for `make chaos`, at all."""
    for sites in SITES.values():
        for number, fault in enumerate(FAULTS):
            chosen = sites if EVERY_SITE else (sites[number % len(sites)],)
            yield from ((*site, fault) for site in chosen)


#: What is called every now and then.
BACKGROUND = (
    *(("g0", site) for site in ("registry list model", "registry list provider")),
    *(("g0", site) for site in ("registry get model", "registry get fleet")),
    *(("g0", site) for site in ("registry take turn", "registry count model")),
    *(("g0", site) for site in ("registry put sums", "sqs GetQueueAttributes")),
    *(("g0", site) for site in ("registry add minute", "registry list minute")),
    *(("g0", site) for site in ("tasks all live", "tasks attend", "registry list tenant")),
    ("g0", "registry list batch"),
    *(("p0", site) for site in ("tasks states", "tasks renew")),
)
#: What counting usage calls now and then, which nobody waits for: its next run goes on with it.
COUNTING = (
    *("tasks ended", "registry get usage", "registry add usage"),
    *("registry get usage rows", "registry list usage"),
)
#: What a gateway calls when it starts.
STARTING = (
    "s3 PUT bucket",
    *("tasks CreateTable", "tasks UpdateTimeToLive", "tasks DescribeTable"),
    *("registry CreateTable", "registry UpdateTimeToLive"),
)


@pytest.mark.parametrize(("who", "site", "stir", "fault"), list(cases()))
async def test_a_fault_of_aws_costs_nobody_an_answer(
    world: World, ask: AskFor, who: str, site: str, stir: Stir, fault: Fault
) -> None:
    proxy = world.find(who).proxy
    assert proxy is not None
    bend = Bend(site, fault)
    proxy.bends.append(bend)

    await stir(world, ask)

    assert await done(bend.done), f"{who} made no call: {site}"


async def test_faults_of_what_is_called_now_and_then_cost_nobody_an_answer(
    world: World, ask: AskFor
) -> None:
    """Each call fails in each way; requests go on meanwhile that are long enough for renewals."""
    bends = [(who, Bend(site, fault)) for who, site in BACKGROUND for fault in FAULTS]
    for who, bend in bends:
        proxy = world.find(who).proxy
        assert proxy is not None
        proxy.bends.append(bend)

    try:
        async with asyncio.timeout(160):  # Tenants are listed each ten seconds.
            while not all(bend.done.is_set() for _, bend in bends):
                outcome, *_ = await asyncio.gather(
                    ask(tokens=30, interval=0.05),
                    world.get(world.urls["g0"] + "/v1/overview"),
                    enrolling(world, ask),  # Providers come and go, and are counted.
                )
                is_answer(outcome)
    except TimeoutError:
        missing = [f"{who} {bend.site}" for who, bend in bends if not bend.done.is_set()]
        pytest.fail(f"these did not fail in each way: {sorted(set(missing))}")


async def test_after_all_that_nothing_is_left(world: World) -> None:
    assert (await world.emptied(60)).nothing


async def test_every_call_that_was_made_has_failed_in_each_way_here(world: World) -> None:
    seen = {(p.name, site) for p in world.proxied if p.proxy for site in p.proxy.calls}

    others = {("g0", site) for site in (*STARTING, *COUNTING)}
    bent = {(who, site) for sites in SITES.values() for who, site, _ in sites}
    assert set() == seen - others - set(BACKGROUND) - bent


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_gateway_starts_though_every_call_on_the_way_fails_once(
    world: World, fault: Fault
) -> None:
    gateway = world.gateways[0]
    assert gateway.proxy is not None
    gateway.kill()
    bends = [Bend(site, fault) for site in STARTING]
    gateway.proxy.bends += bends

    await world.restart(gateway)

    assert all([await done(bend.done) for bend in bends])
    models = await world.get(f"{world.urls['g0']}/v1/models")
    assert MODEL in {model["id"] for model in models["data"]}
