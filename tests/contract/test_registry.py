"""The contract of every registry and every body store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from inferline.errors import Quarantined, Unavailable
from inferline.fleet.registry import (
    NOBODY,
    Fleet,
    Model,
    NameTaken,
    ProviderPool,
    ProviderRecord,
    Serving,
    SpeedGroup,
    TaskSpeed,
)
from tests.support.seams import Seams

MODEL = Model(
    id="org/m",
    queues={"default": "u1", "flex": "u2", "priority": "u3"},
    created=7,
    context_length=42,
)


def provider(name: str = "p1", **fields: object) -> ProviderRecord:
    given: dict[str, object] = {
        "id": name,
        "models": ("org/m",),
        "slots": 4,
        "running": 1,
        "healthy": True,
        "version": "1",
        "service_seconds": 1.5,
        "tokens_per_second": 12.345,
        "reason": "",
        "speeds": {"org/m": TaskSpeed(1.234, 56.789), "plain": TaskSpeed(0.5)},
    }
    return ProviderRecord(**(given | fields))  # type: ignore[arg-type]


async def test_an_empty_registry_knows_nothing(seams: Seams) -> None:
    snapshot = await seams.registry.snapshot()

    assert ({}, {}) == (snapshot.models, snapshot.providers)


async def test_models_and_providers_are_read_as_they_were_told(seams: Seams) -> None:
    bare = Model(id="bare", queues={"default": "u"})
    await seams.registry.put_models([MODEL, bare])
    await seams.registry.put_provider(provider())

    snapshot = await seams.registry.snapshot()

    assert {"org/m": MODEL, "bare": bare} == snapshot.models
    (stored,) = snapshot.providers.values()
    assert provider(seen_ms=stored.seen_ms) == stored
    assert abs(stored.seen_ms - seams.registry.now_ms()) < 5000
    assert {"org/m": MODEL, "bare": bare} == await seams.registry.models()
    assert stored == await seams.registry.provider("p1")
    assert MODEL == await seams.registry.model("org/m")


async def test_why_a_provider_takes_no_work_is_read_as_it_was_told(seams: Seams) -> None:
    await seams.registry.put_provider(provider(healthy=False, reason="It does not answer."))

    (stored,) = (await seams.registry.snapshot()).providers.values()

    assert "It does not answer." == stored.reason


async def test_what_nobody_has_told_of_is_not_there(seams: Seams) -> None:
    assert await seams.registry.model("org/m") is None
    assert await seams.registry.provider("p1") is None


async def test_a_model_told_of_again_is_as_it_was_told_last(seams: Seams) -> None:
    renewed = Model(id="org/m", queues=MODEL.queues, owned_by="another")
    await seams.registry.put_models([MODEL])
    await seams.registry.put_models([renewed])

    assert renewed == await seams.registry.model("org/m")


async def test_who_tells_of_a_provider_hears_how_it_was_before(seams: Seams) -> None:
    previous = [
        await seams.registry.put_provider(provider(slots=4)),
        await seams.registry.put_provider(provider(slots=9)),
        await seams.registry.put_provider(provider()),
    ]
    await seams.registry.remove_provider("p1")
    previous.append(await seams.registry.put_provider(provider()))

    assert [None, 4, 9, None] == [record and record.slots for record in previous]


async def test_a_provider_that_left_is_gone_and_its_models_stay(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    await seams.registry.put_provider(provider())

    await seams.registry.remove_provider("p1")
    await seams.registry.remove_provider("p1")

    snapshot = await seams.registry.snapshot()
    assert ({"org/m"}, set()) == (set(snapshot.models), set(snapshot.providers))


async def test_a_provider_heard_of_since_is_not_removed(seams: Seams) -> None:
    await seams.registry.put_provider(provider())
    before = await seams.registry.provider("p1")

    await seams.registry.remove_provider("p1", before.seen_ms - 1)
    assert before == await seams.registry.provider("p1")
    await seams.registry.remove_provider("p1", before.seen_ms)
    assert await seams.registry.provider("p1") is None
    await seams.registry.remove_provider("p1", before.seen_ms)


async def test_many_providers_are_all_found(seams: Seams) -> None:
    for number in range(30):
        await seams.registry.put_provider(provider(f"p{number}"))

    snapshot = await seams.registry.snapshot()

    assert 30 == len(snapshot.providers)


SERVING = Serving(
    providers=3,
    slots=12,
    service_seconds=1.5,
    pools=(ProviderPool(4.0, {"0a1b2c3d": 1.0, "4e5f6071": 0.25}), ProviderPool(0.5)),
    speed_groups=(
        SpeedGroup(speed=TaskSpeed(1.5, 12.345), provider_id="p1"),
        SpeedGroup(speed=TaskSpeed(2.0), providers=2),
    ),
)


async def aggregation(seams: Seams, epoch: int, serving: Serving) -> None:
    """Write the servings of an epoch, dated now."""
    now_ms = seams.registry.now_ms()
    sums = Fleet(epoch=epoch, aggregated_ms=now_ms, models=1, providers=3, slots=12)
    await seams.registry.put_servings(epoch, {"org/m": replace(serving, seen_ms=now_ms)})
    await seams.registry.put_fleet(sums)


async def found_serving(seams: Seams) -> Serving | None:
    """Read the serving of the model in each way: all agree."""
    serving = (await seams.registry.model("org/m")).serving
    assert serving == (await seams.registry.models())["org/m"].serving
    assert serving == (await seams.registry.snapshot(consistent=True)).models["org/m"].serving
    return serving and replace(serving, seen_ms=0)


async def test_a_new_model_is_served_by_nobody(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])

    assert NOBODY == await found_serving(seams)


async def test_what_an_aggregation_has_counted_is_read_as_it_was_written(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    begun = await seams.registry.begin_epoch(Fleet())
    await aggregation(seams, begun.epoch, SERVING)

    fleet = await seams.registry.fleet()

    assert SERVING == await found_serving(seams)
    assert (1, 1, 3, 12) == (fleet.epoch, fleet.models, fleet.providers, fleet.slots)
    assert abs(fleet.aggregated_ms - seams.registry.now_ms()) < 5000


async def test_a_model_told_of_again_is_served_as_before(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    await aggregation(seams, 1, SERVING)

    await seams.registry.put_models([replace(MODEL, owned_by="another")])

    assert SERVING == await found_serving(seams)


async def test_a_later_aggregation_stays_whatever_an_earlier_one_writes(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    later = await seams.registry.begin_epoch(await seams.registry.begin_epoch(Fleet()))
    await aggregation(seams, later.epoch, SERVING)

    await aggregation(seams, later.epoch - 1, replace(SERVING, slots=99))

    assert SERVING == await found_serving(seams)
    assert 2 == (await seams.registry.fleet()).epoch


async def test_an_aggregation_makes_no_model_known(seams: Seams) -> None:
    await aggregation(seams, 1, SERVING)

    assert await seams.registry.model("org/m") is None
    assert {} == await seams.registry.models()


async def test_of_those_that_saw_the_same_epoch_one_begins_the_next(seams: Seams) -> None:
    for number in range(3):
        seen = await seams.registry.fleet()
        outcomes = await asyncio.gather(*(seams.registry.begin_epoch(seen) for _ in range(5)))

        assert [number + 1] == [begun.epoch for begun in outcomes if begun is not None]
        assert number + 1 == (await seams.registry.fleet()).epoch


async def test_who_is_no_longer_heard_of_is_told_apart(seams: Seams) -> None:
    seams.registry.silent_seconds = 0.5
    await seams.registry.put_provider(provider("gone"))
    await asyncio.sleep(0.6)  # By the store's own clock.
    await seams.registry.put_provider(provider("here"))

    snapshot = await seams.registry.snapshot()

    assert ({"here"}, ["gone"]) == (set(snapshot.providers), [p.id for p in snapshot.silent])
    assert await seams.registry.provider("gone") is None
    assert await seams.registry.put_provider(provider("gone")) is None


@pytest.mark.parametrize(("ago_seconds", "is_served"), [(46.0, True), (47.5, False)])
async def test_nobody_serves_once_who_was_counted_is_silent_and_nobody_counts(
    seams: Seams, ago_seconds: float, is_served: bool
) -> None:
    seams.registry.silent_seconds = 35.0
    await seams.registry.put_models([MODEL])
    seen_ms = seams.registry.now_ms() - int(ago_seconds * 1000)
    await seams.registry.put_servings(1, {"org/m": replace(SERVING, seen_ms=seen_ms)})

    assert is_served is (await seams.registry.model("org/m")).is_served
    assert is_served is (await seams.registry.models())["org/m"].is_served


async def test_a_body_comes_back_to_the_byte(seams: Seams) -> None:
    body = bytes(range(256)) * 5000

    await seams.bodies.put("m-0/task", body)

    assert body == await seams.bodies.get("m-0/task")
    with pytest.raises(Unavailable):
        await seams.bodies.get("m-0/another")


async def test_a_provider_that_breaks_the_rules_too_often_is_refused_and_remembered(
    seams: Seams,
) -> None:
    registry = seams.registry
    await registry.put_provider(provider())

    counted = [await registry.strike("p1", "org/m", "row", 3) for _ in range(2)]
    await registry.put_provider(provider())  # A heartbeat forgets nothing.
    counted.append(await registry.strike("p1", "org/m", "head", 3))

    assert [1, 2, 3] == counted
    with pytest.raises(Quarantined):
        await registry.put_provider(provider())
    await registry.remove_provider("p1")  # Nor does it help to leave.
    with pytest.raises(Quarantined):
        await registry.put_provider(provider())
    snapshot = await registry.snapshot(consistent=True)
    [stored] = [*snapshot.providers.values(), *snapshot.silent]
    assert "head" == stored.breach
    assert abs(stored.quarantined_ms - registry.now_ms()) < 5000


async def test_a_pardoned_provider_begins_anew(seams: Seams) -> None:
    registry = seams.registry
    await registry.put_provider(provider())
    await registry.strike("p1", "org/m", "row", 1)

    pardoned = [await registry.pardon("p1"), await registry.pardon("p1")]

    assert [True, False] == pardoned
    await registry.put_provider(provider())
    stored = await registry.provider("p1")
    assert (0, "") == (stored.quarantined_ms, stored.breach)
    assert 1 == await registry.strike("p1", "org/m", "row", 2)


async def test_nobody_is_refused_for_a_model_that_it_does_not_serve(seams: Seams) -> None:
    # A provider that may write a task's row may write any name into it.
    registry = seams.registry
    await registry.put_provider(provider())

    await registry.strike("p1", "another/m", "row", 1)
    await registry.strike("nobody", "org/m", "row", 1)

    assert await registry.put_provider(provider()) is not None
    assert await registry.provider("nobody") is None


async def test_the_later_of_two_processes_has_the_name(seams: Seams) -> None:
    earlier, later = provider(nonce="1-a"), provider(nonce="2-b", slots=9)
    await seams.registry.put_provider(earlier)
    await seams.registry.put_provider(later)

    with pytest.raises(NameTaken):
        await seams.registry.put_provider(earlier)

    before = await seams.registry.put_provider(later)
    assert before is not None
    assert (9, "2-b", True) == (before.slots, before.nonce, before.twin_ms > 0)
    (stored,) = (await seams.registry.snapshot(consistent=True)).providers.values()
    assert 0 == stored.twin_ms


async def test_a_name_is_free_once_its_process_is_silent(seams: Seams) -> None:
    seams.registry.silent_seconds = -1
    await seams.registry.put_provider(provider(nonce="2-b"))

    assert await seams.registry.put_provider(provider(nonce="1-a")) is None


async def test_a_process_of_an_earlier_release_gives_way(seams: Seams) -> None:
    await seams.registry.put_provider(provider())
    assert await seams.registry.put_provider(provider(nonce="1-a")) is not None

    with pytest.raises(NameTaken):
        await seams.registry.put_provider(provider())


async def test_a_quarantine_is_of_a_name_whatever_the_process(seams: Seams) -> None:
    await seams.registry.put_provider(provider(nonce="2-b"))
    await seams.registry.strike("p1", "org/m", "no_json", 1)

    for nonce in ("1-a", "2-b", "3-c"):
        with pytest.raises(Quarantined):
            await seams.registry.put_provider(provider(nonce=nonce))


async def test_a_removed_model_is_gone_until_somebody_brings_it(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    await seams.registry.remove_model("org/m")
    await seams.registry.remove_model("org/m")

    assert await seams.registry.model("org/m") is None
    await seams.registry.put_servings(9, {"org/m": replace(NOBODY, seen_ms=1)})
    assert {} == await seams.registry.models()
    await seams.registry.put_models([MODEL])
    assert MODEL == await seams.registry.model("org/m")


async def test_when_a_model_was_last_served_is_kept_once_nobody_does(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    last_served = replace(SERVING, seen_ms=1_700_000_000_000)
    await seams.registry.put_servings(1, {"org/m": last_served})

    model = await seams.registry.model("org/m")

    assert model is not None
    assert replace(NOBODY, seen_ms=last_served.seen_ms) == model.serving
