"""Loads each contender in turn, again and again, so that all of them meet the same noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from bench.harness.loader import Block, Loader, body
from bench.harness.processes import Machine, Running
from bench.harness.stack import Contender, InferLine
from bench.harness.stats import percentile_of
from bench.report import progress


class Costly(Protocol):
    """A process whose CPU time is known."""

    name: str

    @property
    def cpu_ms(self) -> float: ...


@dataclass(slots=True)
class Runs:
    """All blocks of one contender at one number of streams, a block for each round."""

    blocks: list[Block] = field(default_factory=list)
    #: CPU milliseconds by process, the compared one first, a value for each round.
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Runs:
        """Return the runs from a file's content."""
        return cls([Block(**block) for block in raw["blocks"]], raw["cpu_ms"])

    @property
    def first(self) -> list[float]:
        return [sample for block in self.blocks for sample in block.first]

    @property
    def total(self) -> list[float]:
        return [sample for block in self.blocks for sample in block.total]

    @property
    def rates(self) -> list[float]:
        return [block.rate for block in self.blocks]

    @property
    def bursts(self) -> Counter[int]:
        """Return the tokens that came at once: how often, by their number."""
        sizes: Counter[int] = Counter()
        for block in self.blocks:
            sizes.update({int(size): count for size, count in block.bursts.items()})
        return sizes

    def gap(self, share: float) -> list[float]:
        """Return a percentile of the milliseconds between two tokens, in each round."""
        return [
            percentile_of({float(gap): count for gap, count in block.gaps.items()}, share)
            for block in self.blocks
        ]

    def cpu_each(self, process: str) -> list[float]:
        """Return the CPU milliseconds of a process for each answer, in each round."""
        pairs = zip(self.cpu_ms[process], self.blocks, strict=True)
        return [used / block.answers for used, block in pairs]

    def shares(self) -> dict[str, float]:
        """Return the share of one core that each process, and the machine, took over all rounds."""
        seconds = sum(block.seconds for block in self.blocks)
        return {name: sum(used) / seconds / 1000 for name, used in self.cpu_ms.items()}


#: Watched beside the processes: what of its time went to nobody under measurement.
MACHINE = Machine()
#: Who finds more of the machine taken than this measures the machine.
FULL_SHARE = 0.9

#: By number of streams and contender's name.
Found = dict[int, dict[str, Runs]]


async def interleave(
    load: Loader,
    contenders: Sequence[Contender],
    orders: Mapping[int, Mapping[str, Any]],
    *,
    rounds: int,
    stream: bool,
    others: Sequence[Costly] = (),
) -> Found:
    """
    Run each order, by its number of streams, on each contender in turn, ``rounds`` times.

    ``others`` are processes besides a contender's own whose CPU is noted, as the backend.
    """
    asked = body(stream=stream)
    for contender in contenders:
        await load.run(contender.url, asked, 8, requests=2 if stream else 25)
    all_runs: Found = {streams: {c.name: Runs() for c in contenders} for streams in orders}
    for streams, order in orders.items():
        for number in range(rounds):
            # Every other round in reverse: nobody always runs after the same neighbour.
            for contender in contenders[:: -1 if number % 2 else 1]:
                runs = all_runs[streams][contender.name]
                watched = [*processes(contender), *others, load, MACHINE]
                with Watched(watched) as cpu:
                    block = await load.run(contender.url, asked, streams, **order)
                runs.blocks.append(block)
                for name, used in cpu.ms.items():
                    runs.cpu_ms.setdefault(name, []).append(used)
                progress(
                    f"{streams} at once, round {number + 1} of {rounds}, {contender.name}: "
                    f"{block.answers} answers in {block.seconds:.0f} s"
                )
    return all_runs


class Watched:
    """The CPU time that some processes use while the block lasts, each once."""

    def __init__(self, processes: Iterable[Costly]) -> None:
        self._those = {one.name: one for one in processes}
        self.ms: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._before = {name: one.cpu_ms for name, one in self._those.items()}
        return self

    def __exit__(self, *_: object) -> None:
        self.ms = {
            name: round(one.cpu_ms - self._before[name], 1) for name, one in self._those.items()
        }


def processes(contender: Contender) -> list[Running]:
    """Return the processes that a contender consists of, the compared one first."""
    members = [contender.router]
    if isinstance(contender, InferLine):
        members += [contender.provider, *([contender.emulator] if contender.emulator else [])]
    return members


def raw(all_runs: Found) -> dict[str, Any]:
    """Return everything that was found, for the file."""
    return {
        str(streams): {name: asdict(runs) for name, runs in by_name.items()}
        for streams, by_name in all_runs.items()
    }


def read(saved: Mapping[str, Any]) -> Found:
    """Return what `raw` has made."""
    return {
        int(streams): {name: Runs.of(runs) for name, runs in by_name.items()}
        for streams, by_name in saved.items()
    }


def each(all_runs: Found) -> list[tuple[int, str, Runs, Runs]]:
    """
    Return the streams, contender, its runs and those of the first contender, which all are compared
    to.
    """
    return [
        (streams, name, runs, next(iter(by_name.values())))
        for streams, by_name in all_runs.items()
        for name, runs in by_name.items()
    ]


#: The columns of `load_cells`.
LOAD_HEAD = ("percent of one core", "others", "machine full")


def load_cells(runs: Runs, cores: int) -> list[str]:
    """Return who took how much of the machine while a contender ran: three cells of a table."""
    shares = runs.shares()
    machine = shares.pop(MACHINE.name)
    text = ", ".join(f"{name} {100 * share:.0f}" for name, share in shares.items())
    others = max(0.0, machine - sum(shares.values()))
    full = machine > FULL_SHARE * cores
    return [text, f"{100 * others:.0f}", "yes" if full else "no"]


def load_note(cores: int) -> str:
    """Return what one has to know to read `load_cells`."""
    return (
        f"All processes of a contender, the backend and the load generator share {cores} cores; "
        "`others` is what else ran on the machine, contenders that wait for their turn included. "
        "Where it is full "
        f"(over {FULL_SHARE:.0%}), times are the machine's, not the router's."
    )
