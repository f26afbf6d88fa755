"""Things that are expensive to make and only read: the first worker of a run makes them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep all other processes out of the block that name the same file."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a path that ``make`` has filled, in this worker or another."""
    base = folders.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / name
    with locked(shared / f"{name}.lock"):
        if not path.exists():
            unfinished = base / f"{name}.unfinished"
            make(unfinished)
            unfinished.rename(path)
    return path
