"""What was done in a run and what came of it, as a table for people and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.client import Ask, Trip
from tests.chaos.world import Remains


@dataclass(slots=True)
class Report:
    """Report of a run."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    #: What must never be, with the request that shows it.
    wrongs: list[str] = field(default_factory=list)
    #: What became of those whose gateway ended before their answer did.
    returns: Counter[str] = field(default_factory=Counter)
    continued: int = 0
    computed: int = 0
    delivered: int = 0
    swept: int = 0
    remains: Remains | None = None
    growth: dict[str, tuple[float, int]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Return whether nothing happened that must never be."""
        return not self.wrongs

    def count(self, kind: str) -> int:
        """Return how many wrongs are of a kind."""
        return sum(kind in wrong for wrong in self.wrongs)

    def note(self, ask: Ask, trip: Trip) -> None:
        """Take note of how a request ended."""
        outcome = trip.outcome
        if trip.cuts or trip.returns:
            self.returns[f"{outcome.end} ({ask.comes_back})"] += 1
        self.outcomes[outcome.end] += 1
        if outcome.end == "error":
            self.codes[outcome.code] += 1
        self.delivered += outcome.tokens
        self.continued += outcome.runs > 1
        self.wrongs += [f"{ask.name} {wrong}" for wrong in outcome.wrongs]

    def lines(self) -> Iterator[str]:
        """Yield the report as a table."""
        yield f"seed                    {self.seed}   (CHAOS_SEED={self.seed} repeats the choices)"
        yield f"requests                {self.outcomes.total()} in {self.seconds:.0f} s"
        yield f"  answered              {self.outcomes['ok']}, {self.continued} of them continued"
        yield f"  clean errors          {_listed(self.codes)}"
        yield f"  left by the client    {self.outcomes['left']}"
        yield f"  cut with a gateway    {self.outcomes['cut']}"
        yield f"  came back             {_listed(self.returns)}"
        yield f"deeds                   {self.deeds.total()}"
        for name, count in sorted(self.deeds.items()):
            yield f"  {name:<22}{count}"
        yield f"faults of AWS           {self.faults.total()}: {_listed(self.faults)}"
        yield f"lost                    {self.count('late') + self.count('broken off')}"
        yield f"mixed                   {self.count('mixed') + self.count('another request')}"
        yield f"duplicates visible      {self.count('repeated')}"
        yield f"ended by the sweep      {self.swept}"
        yield f"tokens                  {self.computed} computed / {self.delivered} delivered"
        for name, (memory, descriptors) in self.growth.items():
            yield f"growth of {name:<14}{memory:+.1f} MB, {descriptors:+d} descriptors"
        yield "wrong                   " + ("nothing" if self.is_good else "")
        yield from (f"  {wrong}" for wrong in self.wrongs)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
