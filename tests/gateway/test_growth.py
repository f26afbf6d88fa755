"""What a fleet's growth costs: a small one and one ten times as large, simulated and counted."""

from __future__ import annotations

from functools import cache

import pytest

from bench.growth import host, line, scene
from bench.growth.scene import Scene
from bench.growth.tables import REGISTRY, Run
from inferline.settings import Settings

SETTINGS = Settings(enrol_seconds=10, silent_seconds=35, registry_seconds=5)
FLEETS = (20, 200)
#: How long it is counted when all are started anew.
RESTARTED_SECONDS = 20.0


@cache
def run(providers: int, *, restarts: bool = False) -> Run:
    """Return some seconds of a fleet, where each request and each heartbeat is a function's run."""
    fields = {"providers": providers, "models": 40, "per_second": 2.0, "functions": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "SETTLE_SECONDS", 10.0)
        patch.setattr(line, "RESTART_SECONDS", 10.0)
        patch.setattr(scene, "COUNT_SECONDS", 10.0)
        if restarts:  # Else hardly a task would end where it began; those handed back end later.
            patch.setattr(host, "ANSWER_SECONDS", (1.0, 2.0))
            patch.setattr(scene, "COUNT_SECONDS", RESTARTED_SECONDS)
        counted = line.simulate(Scene(**fields, restarts=restarts), SETTINGS)  # type: ignore[arg-type]
    return Run({**fields, "restarts": restarts}, counted.raw())


def each(what: str, *, restarts: bool = False) -> list[tuple[float, float]]:
    """Read and write units of one, at the rows of models, providers and the fleet."""
    costs = [run(providers, restarts=restarts).each(what, REGISTRY) for providers in FLEETS]
    assert None not in costs
    return [one for one in costs if one is not None]


def test_a_request_reads_one_row_however_many_providers_there_are() -> None:
    for reads, writes in each("request"):
        assert 0.9 <= reads <= 1.1
        assert 0 == writes


def test_the_start_of_a_process_reads_one_row() -> None:
    assert [(1.0, 0.0)] * 2 == each("start")


def test_a_heartbeat_writes_a_row_and_its_part_of_the_count_falls_with_the_fleet() -> None:
    (few_reads, few_writes), (many_reads, many_writes) = each("heartbeat")

    assert 1.0 <= many_writes < few_writes
    assert many_reads < few_reads


def test_a_restart_of_all_costs_each_about_the_same() -> None:
    for what in ("join", "leave"):
        (few, _), (many, _) = each(what, restarts=True)

        assert many < 2 * few + 20


def test_no_request_fails_while_all_providers_restart() -> None:
    result = run(FLEETS[1], restarts=True)

    assert result.events("join") == pytest.approx(FLEETS[1] / RESTARTED_SECONDS, rel=0.2)
    assert {"status 200"} == {what for what in result.counted["events"] if "status" in what}
    assert result.events("status 200") == pytest.approx(result.events("request"), rel=0.3)
