"""What one cell of the matrix holds, and how long the finding of it may take."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, Literal

import pytest

from tests.support.emulators import end

#: `told`: it cannot be done there, and the client is told so. `n/a`: there is nothing to try.
Verdict = Literal["yes", "partly", "told", "no", "n/a"]

#: The longest that one cell may take; a real model on two busy cores is slow.
CELL_SECONDS_MAX = 240
NOTE_CHARACTERS_MAX = 240


@dataclass(frozen=True)
class Cell:
    """One cell: what was seen, in a word and in a sentence."""

    verdict: Verdict
    note: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the cell as it is written down."""
        return {name: value for name, value in asdict(self).items() if value}


class Wrong(Exception):
    """Difference from what should be seen; the message says what it is."""


def yes(note: str = "") -> Cell:
    return Cell("yes", note)


def check(holds: object, otherwise: str) -> None:
    """Raise Wrong with ``otherwise`` unless ``holds``."""
    if not holds:
        raise Wrong(otherwise)


def tried(look: Callable[[], Cell], seconds_max: float = CELL_SECONDS_MAX) -> Cell:
    """
    Return what ``look`` gives; `no` with the reason where it fails or takes longer than it may.
    """
    try:
        with at_most(seconds_max):
            return look()
    except Wrong as wrong:
        return Cell("no", tidy(str(wrong)))
    except TimeoutError:
        return Cell("no", f"nothing within {seconds_max:.0f} s")
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - each is a result
        return Cell("no", tidy(f"{type(error).__name__}: {error}"))


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block once ``seconds`` are over; in the main thread only."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_all(process: subprocess.Popen[Any], seconds: float = 10.0) -> None:
    """Ask a process to end, and kill it and all that it has started if it has not by then."""
    end(process, seconds)
    # Servers leave workers behind.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def tidy(text: Any) -> str:
    """Return one line without what changes from run to run: ports, paths, ids."""
    text = re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "127.0.0.1", str(text))
    text = re.sub(r"(?<![\w.:/])/(?:work|tmp|home|root)/\S+", "(path)", text)
    text = re.sub(r"\b0x[0-9a-f]{6,}\b|\b[0-9a-f]{16,}\b", "…", text)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= NOTE_CHARACTERS_MAX else text[: NOTE_CHARACTERS_MAX - 1] + "…"
