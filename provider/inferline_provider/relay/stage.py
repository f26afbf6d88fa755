"""Stages: the steps of an answer's events on their way from the backend to the chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from inferline.streams.sse import Event


class EventStage(Protocol):
    """One step: it changes, holds back, leaves out or checks the events of one answer."""

    def feed(self, events: Iterable[Event]) -> Iterable[Event]:
        """Take the next events and return those that go on; a generator takes them one by one."""

    def end(self) -> Iterable[Event]:
        """Return what was held back: no more events come."""


class EventPipeline:
    """Stages in a row, which together are one."""

    def __init__(self, *stages: EventStage) -> None:
        self._stages = stages
        self._feeds = [stage.feed for stage in stages]

    def feed(self, events: Iterable[Event]) -> Iterable[Event]:
        """Pass events through all stages, each as it is asked for."""
        for feed in self._feeds:
            events = feed(events)
        return events

    def end(self) -> Iterable[Event]:
        """Pass on what each stage holds back."""
        events: Iterable[Event] = ()
        for stage in self._stages:
            events = _ended(stage, events)
        return events


def _ended(stage: EventStage, events: Iterable[Event]) -> Iterator[Event]:
    yield from stage.feed(events)
    yield from stage.end()
