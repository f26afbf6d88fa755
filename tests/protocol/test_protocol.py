"""Whatever happens, in whatever order: a client gets one whole answer, or one error."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

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
#: How many of them are tried until a broken variant shows what it is known by.
SEEDS_MAX = 4


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed; pytest shows what is printed when a test fails."""
    option = request.config.getoption("--hypothesis-seed")
    value = SEED if option is None else time.time_ns() if option == "random" else int(option)
    print(f"--hypothesis-seed={value}")
    return value


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
    """From the same seeds always: it is the machine that is tested here."""
    reports = [str(violation) for violation in violations(machine)]
    print(*reports, sep="\n")
    assert re.search(machine.notices, reports[-1])


def violations(machine: type[Protocol]) -> Iterator[Violation]:
    """
    Yield what is noticed with one seed after the other, up to what the variant is known by.

    What examples a seed makes depends on the modules that are loaded, because Hypothesis also draws
    the constants that stand in them.
    """
    for seed in range(SEED, SEED + SEEDS_MAX):
        with pytest.raises(Violation) as caught:
            run(machine, seed, examples=2000, steps=40, phases=(Phase.generate,))
        yield caught.value
        if re.search(machine.notices, str(caught.value)):
            return
