"""Maps that stay small: what is old, or more than there is room for, is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ExpiringMap(Generic[K, V]):
    """
    Values by key, each for some seconds after it was put.

    When there are more than ``size``, the one that was put longest ago goes.
    """

    def __init__(
        self, size: int, now: Callable[[], float] = lambda: 0.0, seconds: float = inf
    ) -> None:
        """``now`` is in seconds; without it nothing expires."""
        self._size = size
        self._now = now
        self._seconds = seconds
        #: With the moment at which each expires; the one that was put longest ago comes first.
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the value of a key; None if there is none, or it has expired."""
        value, until = self._entries.get(key, (None, inf))
        return value if self._now() < until else None

    def put(self, key: K, value: V, seconds: float | None = None) -> None:
        """Set the value of a key, for the map's seconds unless others are given."""
        self._entries[key] = value, self._now() + (self._seconds if seconds is None else seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> None:
        """Remove a key, if it is there."""
        self._entries.pop(key, None)

    def values(self) -> list[V]:
        """Return the values that have not expired, the one that was put longest ago first."""
        now = self._now()
        return [value for value, until in self._entries.values() if now < until]

    def __len__(self) -> int:
        """Return the number of keys, those that have expired and are not yet gone included."""
        return len(self._entries)
