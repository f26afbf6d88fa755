"""Loads each contender in turn, again and again, so that all of them meet the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.loader import Block, Loader, body
from bench.processes import Running
from bench.stack import Contender, InferLine


@dataclass(slots=True)
class Runs:
    """All blocks of one contender at one number of streams, a block for each round."""

    blocks: list[Block] = field(default_factory=list)
    #: CPU milliseconds for each answer, by process, a value for each round.
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def first(self) -> list[float]:
        return [sample for block in self.blocks for sample in block.first]

    @property
    def total(self) -> list[float]:
        return [sample for block in self.blocks for sample in block.total]

    @property
    def rates(self) -> list[float]:
        return [block.rate for block in self.blocks]

    def raw(self) -> dict[str, Any]:
        """Everything, for the file."""
        return asdict(self)


#: By number of streams and contender's name.
Found = dict[int, dict[str, Runs]]


async def interleave(
    load: Loader,
    contenders: Sequence[Contender],
    orders: Mapping[int, Mapping[str, Any]],
    *,
    rounds: int,
    stream: bool,
) -> Found:
    """Run each order, by its number of streams, on each contender in turn, ``rounds`` times."""
    asked = body(stream=stream)
    for contender in contenders:
        await load.run(contender.url, asked, 8, requests=2 if stream else 25)
    found: Found = {streams: {c.name: Runs() for c in contenders} for streams in orders}
    for streams, order in orders.items():
        for number in range(rounds):
            # Every other round in reverse: nobody always runs after the same neighbour.
            for contender in contenders[:: -1 if number % 2 else 1]:
                runs = found[streams][contender.name]
                watched = processes(contender)
                before = {process.name: process.cpu_ms for process in watched}
                block = await load.run(contender.url, asked, streams, **order)
                runs.blocks.append(block)
                for process in watched:
                    used = (process.cpu_ms - before[process.name]) / len(block.total)
                    runs.cpu_ms.setdefault(process.name, []).append(used)
    return found


def processes(contender: Contender) -> list[Running]:
    """The processes that a contender consists of, the compared one first."""
    found = [contender.router]
    if isinstance(contender, InferLine):
        found += [contender.provider, *([contender.emulator] if contender.emulator else [])]
    return found


def raw(found: Found) -> dict[str, Any]:
    """Everything that was found, for the file."""
    return {
        str(streams): {name: runs.raw() for name, runs in by_name.items()}
        for streams, by_name in found.items()
    }
