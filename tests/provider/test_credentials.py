"""When a provider asks for AWS credentials, and what it signs with meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable

import pytest

from inferline.aws.api.credentials import Keys, LentCredentials, StaticCredentials
from inferline.fleet.enrolment import Credentials, Grant
from inferline.names import dedicated_name
from inferline.options import SettingsError
from inferline.tasks.task import State
from inferline_provider.enrolment import GrantedCredentials
from tests.provider.command import read
from tests.provider.fakes import FakeClock
from tests.provider.world import TERMS, World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

HOUR = 3600


def grant(seconds: int | None = HOUR, *, models: Iterable[str] = "m", lends: bool = True) -> Grant:
    credentials = Credentials(access_key="a", secret_key="s", token="t", last_seconds=seconds)
    return Grant(
        queues={model: {} for model in models},
        tasks_table="t",
        bodies_bucket="b",
        region="r",
        credentials=credentials if lends else None,
        terms=TERMS,
    )


def lending(seconds: int | None) -> Callable[[], Credentials]:
    """Lend credentials that are numbered from 1."""
    numbers = itertools.count(1)
    return lambda: Credentials(
        access_key=str(next(numbers)), secret_key="s", token="t", last_seconds=seconds
    )


def key(around: World) -> str:
    return str(around.credentials.lent.access_key)


def test_they_are_asked_for_at_first_and_when_a_third_of_their_life_is_left() -> None:
    clock = FakeClock()
    credentials = GrantedCredentials(clock)

    assert credentials.ask("m")
    credentials.take(grant())
    clock.advance(2 / 3 * HOUR - 1)
    assert not credentials.ask("m")
    assert pytest.approx(1) == credentials.due_seconds
    clock.advance(1)
    assert credentials.ask("m")


def test_those_that_never_expire_are_asked_for_once() -> None:
    clock = FakeClock()
    credentials = GrantedCredentials(clock)
    credentials.ask("m")
    credentials.take(grant(None))

    clock.advance(1e9)

    assert not credentials.ask("m")


def test_other_models_need_others() -> None:
    credentials = GrantedCredentials(FakeClock())
    credentials.ask("m")
    credentials.take(grant())

    assert credentials.ask("mn")
    credentials.take(grant(models="mn"))
    assert not credentials.ask("nm")
    assert credentials.ask("n")


def test_what_is_reserved_needs_others_and_is_not_open_before() -> None:
    credentials, name = GrantedCredentials(FakeClock()), dedicated_name("m", "acme")
    credentials.ask("m")
    credentials.take(grant())
    assert not credentials.ask("m")

    credentials.take(grant(models=("m", name), lends=False))
    before = (
        credentials.is_behind,
        credentials.open("m"),
        credentials.open(name),
        credentials.ask("m"),
    )
    credentials.take(grant(models=("m", name)))

    assert (True, True, False, True) == before
    assert (False, True) == (credentials.is_behind, credentials.open(name))
    assert not credentials.ask("m")


def test_what_is_no_longer_reserved_needs_others_too() -> None:
    credentials, name = GrantedCredentials(FakeClock()), dedicated_name("m", "acme")
    credentials.ask("m")
    credentials.take(grant(models=("m", name)))
    assert not credentials.ask("m")

    credentials.take(grant(lends=False))

    assert credentials.is_behind
    assert credentials.ask("m")


def test_who_has_its_own_is_never_behind() -> None:
    credentials = GrantedCredentials(FakeClock(), own=True)
    credentials.ask("m")
    credentials.take(grant())

    assert not credentials.is_behind
    assert credentials.open("m")


def test_a_heartbeat_that_brings_none_leaves_the_old_ones() -> None:
    credentials = GrantedCredentials(FakeClock())
    credentials.ask("m")
    credentials.take(grant())

    credentials.ask("m")
    credentials.take(grant(lends=False))

    assert credentials.lent is not None


def test_asked_for_and_not_lent_they_are_the_hosts_own() -> None:
    credentials = GrantedCredentials(FakeClock())
    credentials.ask("m")
    credentials.take(grant())
    credentials.expired()

    credentials.ask("m")
    credentials.take(grant(lends=False))

    assert credentials.lent is None
    assert credentials.due_seconds > HOUR


def test_who_has_its_own_asks_for_none_and_takes_none() -> None:
    credentials = GrantedCredentials(FakeClock(), own=True)

    assert not credentials.ask("m")
    credentials.take(grant())

    assert credentials.lent is None


def test_the_flag_and_its_variable_say_to_use_the_hosts_own() -> None:
    given = {"INFERLINE_BASE_URL": "http://gateway", "OPENAI_BASE_URL": "http://llm"}
    name = "INFERLINE_OWN_CREDENTIALS"

    assert not read([], given).own_credentials
    assert not read([], {**given, name: "0"}).own_credentials
    assert read([], {**given, name: "1"}).own_credentials
    assert read(["--own-credentials"], {**given, name: "0"}).own_credentials
    with pytest.raises(SettingsError, match=name):
        read([], {**given, name: "maybe"})


async def test_calls_are_signed_with_the_newest_that_are_lent_or_the_hosts_own() -> None:
    credentials = GrantedCredentials(FakeClock())
    source = LentCredentials(credentials, StaticCredentials("own", "s"))

    assert Keys("own", "s", None) == await source.frozen()
    credentials.ask("m")
    credentials.take(grant())
    assert ("a", "s", "t") == await source.frozen()


async def test_a_provider_asks_once_and_then_only_tells_that_it_lives() -> None:
    async with world(lends=lending(HOUR), terms={"enrol_seconds": 0.3}) as around:
        await until(lambda: len(around.gateway.enrolments) >= 3)

        requests = [enrolment["credentials"] for enrolment in around.gateway.enrolments]
        assert True is requests[0]
        assert {False} == set(requests[1:])
        assert "1" == key(around)


async def test_a_reserved_task_is_run_as_any_other_of_its_model() -> None:
    async with world(lends=lending(HOUR)) as around:
        around.gateway.reserved.append("t")
        task = await around.submit(is_reserved=True)

        row = await around.ended(task)

        assert (State.DONE, 200) == (row.state, row.status)
        assert "test-model" == json.loads(around.backend.bodies[0])["model"]
        assert [False, True] == [
            enrolment["credentials"] for enrolment in around.gateway.enrolments[1:3]
        ]
        assert "2" == key(around)


async def test_who_has_its_own_credentials_takes_no_reserved_tasks() -> None:
    async with world(own_credentials=True) as around:
        assert False is around.gateway.enrolments[0]["takes_reserved"]


async def test_a_stream_goes_on_while_credentials_are_renewed() -> None:
    clock = FakeClock()
    script = Script(first=0.01, interval=0.02, tokens=60)
    async with world(Backend(script=script), lends=lending(30), clock=clock) as around:
        task = await around.submit({"stream": True})
        await until(lambda: around.store.chunks(task.ref, 1))

        for _ in range(22):
            clock.advance(1)
            await asyncio.sleep(0.02)
        await until(lambda: key(around) == "2")

        assert State.RUNNING is around.row(task).state
        while not around.row(task).state.terminal:
            clock.advance(0.1)
            await asyncio.sleep(0.02)
        assert (State.DONE, 1) == (around.row(task).state, around.row(task).attempt)
        assert around.answer(task).endswith(b"data: [DONE]\n\n")


async def test_expired_ones_are_renewed_at_once() -> None:
    async with world(lends=lending(HOUR), terms={"enrol_seconds": 60.0}) as around:
        await until(lambda: around.credentials is not None)

        for _ in range(3):
            around.credentials.expired()
        await until(lambda: key(around) == "2")

        await asyncio.sleep(0.5)
        assert "2" == key(around)


async def test_a_changed_list_of_models_brings_credentials_for_it() -> None:
    backend = Backend()
    async with world(backend, lends=lending(HOUR), refresh_seconds=0.2) as around:
        await until(lambda: around.credentials is not None)

        backend.models.append("another")
        await until(lambda: key(around) == "2")

        assert 2 == len(around.gateway.enrolments[-1]["models"])
