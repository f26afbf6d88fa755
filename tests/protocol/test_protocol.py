"""Whatever happens, in whatever order: a client gets one whole answer, or one error."""

from __future__ import annotations

import re
import time

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.protocol.broken import BROKEN
from tests.protocol.machine import Protocol
from tests.protocol.oracle import Violation
from tests.protocol.worlds import on_aws
from tests.support.emulators import running

#: Which examples are made, unless `--hypothesis-seed` says otherwise.
SEED = 20261122


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed; pytest shows what is printed when a test fails."""
    told = request.config.getoption("--hypothesis-seed")
    found = SEED if told is None else time.time_ns() if told == "random" else int(told)
    print(f"--hypothesis-seed={found}")
    return found


def run(
    machine: type[Protocol],
    seed: int,
    *,
    examples: int,
    steps: int,
    phases: tuple[Phase, ...] = tuple(Phase),
) -> None:
    """Make examples of so many steps. Nothing is kept: the seed says all."""
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=options)


def test_the_protocol_holds_on_the_pure_model(seed: int) -> None:
    run(Protocol, seed, examples=400, steps=40)


@pytest.mark.parametrize(("emulator", "examples"), [("ministack", 25), ("moto", 15)])
def test_the_protocol_holds_on_what_others_wrote(emulator: str, examples: int, seed: int) -> None:
    with running(emulator) as url, on_aws(url) as worlds:
        changes = {"worlds": staticmethod(worlds), "step": 0.75}
        machine = type("ProtocolOnAws", (Protocol,), changes)
        run(machine, seed, examples=examples, steps=30)


@pytest.mark.parametrize("machine", BROKEN, ids=lambda machine: machine.__name__)
def test_a_precaution_left_out_is_noticed(machine: type[Protocol]) -> None:
    """Always from the same seed: it is the machine that is tested here."""
    with pytest.raises(Violation) as found:
        run(machine, SEED, examples=2000, steps=40, phases=(Phase.generate,))
    print(found.value)
    assert re.search(machine.notices, str(found.value))
