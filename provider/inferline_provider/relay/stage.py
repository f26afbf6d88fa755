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


class EventSink(Protocol):
    """The end of the way: the chunks of a client's answer, or a line's answer that is folded."""

    @property
    def begun(self) -> bool:
        """Return True if a reader may have seen a part of the answer."""

    def head(self, status: int, content_type: str) -> None:
        """Take note that the answer is a stream."""

    def put(self, event: bytes) -> None:
        """Add an event as it is to be forwarded."""

    async def drained(self) -> None:
        """Wait while the sink can't keep up."""

    def discard(self) -> None:
        """Drop what is pending: the answer is no stream after all."""


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
