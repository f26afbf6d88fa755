"""Pipelines of stages: their order, what they hold back, and where they stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inferline.streams.sse import Event
from inferline_provider.relay.stage import EventPipeline


def event(text: str) -> Event:
    return Event(None, text.encode(), text.encode())


class Marking:
    """A stage that marks each event, and keeps the marked ones."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.taken: list[str] = []

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        for each in events:
            self.taken.append(each.data.decode())
            yield event(each.data.decode() + self.mark)

    def end(self) -> Iterable[Event]:
        return ()


class Holding:
    """A stage that holds back every event until the end."""

    def __init__(self) -> None:
        self.held: list[Event] = []

    def feed(self, events: Iterable[Event]) -> Iterable[Event]:
        self.held += events
        return ()

    def end(self) -> Iterable[Event]:
        return self.held


class First:
    """A stage that stops after the first event."""

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        yield next(iter(events))

    def end(self) -> Iterable[Event]:
        return ()


def passed(events: Iterable[Event]) -> list[str]:
    return [each.data.decode() for each in events]


def test_events_pass_through_the_stages_in_their_order() -> None:
    stages = EventPipeline(Marking("1"), Marking("2"))

    assert ["a12", "b12"] == passed(stages.feed([event("a"), event("b")]))
    assert [] == passed(stages.end())


def test_what_a_stage_holds_back_passes_the_later_ones_at_the_end() -> None:
    before, after = Marking("1"), Marking("2")
    stages = EventPipeline(before, Holding(), after)

    assert [] == passed(stages.feed([event("a")]))
    assert ["a12"] == passed(stages.end())
    assert (["a"], ["a1"]) == (before.taken, after.taken)


def test_behind_a_stage_that_stops_earlier_ones_see_no_further_event() -> None:
    before = Marking("1")

    assert ["a1"] == passed(EventPipeline(before, First()).feed([event("a"), event("b")]))
    assert ["a"] == before.taken


def test_a_pipeline_is_a_stage() -> None:
    inner = EventPipeline(Marking("2"), Marking("3"))

    assert ["a1234"] == passed(EventPipeline(Marking("1"), inner, Marking("4")).feed([event("a")]))
