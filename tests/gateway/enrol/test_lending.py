"""When an enrolment lends credentials, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from inferline.accounts.caller import Caller
from inferline.errors import InferLineError, InvalidRequest, Unavailable
from inferline.fleet.enrolment import Credentials, Enrolment, OfferedModel
from inferline.fleet.registry import Model
from inferline.gateway.enrol.enrolments import Enrolments
from tests.support.gateway import Gateway

CALLER = Caller(tenant="t", role="provider")


class Lender:
    """Notes whom it lends to, and fails when told to."""

    def __init__(self) -> None:
        self.lent: list[tuple[str, list[str]]] = []
        self.fails: InferLineError | None = None

    def room(self, models: Sequence[str]) -> int:
        return len(models)

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        if self.fails:
            raise self.fails
        self.lent.append((provider_id, [model.id for model in models]))
        return Credentials(access_key="a", secret_key="s", token="t", last_seconds=3600)


def enrolment(*models: str, credentials: bool = True) -> Enrolment:
    offered = [OfferedModel(id=model) for model in models]
    return Enrolment(id="p", version="1", slots=1, models=offered, credentials=credentials)


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def enrolments(gateway: Gateway, lender: Lender) -> Enrolments:
    return Enrolments(dataclasses.replace(gateway.parts, lender=lender))


async def test_who_wants_credentials_is_lent_some_for_its_models(
    enrolments: Enrolments, lender: Lender
) -> None:
    grant = await enrolments.enrol(enrolment("a", "b"), CALLER)

    assert [("p", ["a", "b"])] == lender.lent
    assert grant.credentials is not None
    assert 3600 == grant.credentials.last_seconds


async def test_a_heartbeat_that_wants_none_gets_none(
    enrolments: Enrolments, lender: Lender
) -> None:
    grant = await enrolments.enrol(enrolment("a", credentials=False), CALLER)

    assert grant.credentials is None
    assert [] == lender.lent


async def test_who_serves_nothing_gets_none(enrolments: Enrolments, lender: Lender) -> None:
    assert (await enrolments.enrol(enrolment(), CALLER)).credentials is None
    assert [] == lender.lent


async def test_a_provider_stays_known_while_no_others_can_be_had(
    gateway: Gateway, enrolments: Enrolments, lender: Lender
) -> None:
    await enrolments.enrol(enrolment("a"), CALLER)
    lender.fails = Unavailable()

    with pytest.raises(Unavailable):
        await enrolments.enrol(enrolment("a", "b"), CALLER)

    assert ("a", "b") == (await gateway.registry.snapshot()).providers["p"].models


async def test_a_provider_is_not_known_before_it_can_take_a_task(
    gateway: Gateway, enrolments: Enrolments, lender: Lender
) -> None:
    lender.fails = Unavailable()

    with pytest.raises(Unavailable):
        await enrolments.enrol(enrolment("a"), CALLER)

    assert "p" not in (await gateway.registry.snapshot()).providers


async def test_who_offers_more_than_can_be_lent_for_is_not_listed_with_it(
    gateway: Gateway, enrolments: Enrolments, lender: Lender
) -> None:
    lender.fails = InvalidRequest("too many")

    with pytest.raises(InvalidRequest):
        await enrolments.enrol(enrolment("a"), CALLER)

    snapshot = await gateway.registry.snapshot()
    assert "p" not in snapshot.providers
    assert "a" not in snapshot.models


async def test_an_enrolment_of_known_models_makes_no_queues(gateway: Gateway) -> None:
    made: list[str] = []

    class Counting:
        async def make(self, model: str) -> object:
            made.append(model)
            return await gateway.queue.make(model)

    enrolments = Enrolments(dataclasses.replace(gateway.parts, queue_maker=Counting()))

    for models in (("a",), ("a",), ("a", "b"), ("a", "b")):
        await enrolments.enrol(enrolment(*models), CALLER)

    assert ["a", "b"] == made
