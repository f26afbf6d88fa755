"""What fuzzing needs: a seed that decides all inputs, how many they are, and what went wrong."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, seed, settings

#: From which all inputs follow; a run prints it.
SEED = int(os.environ.get("FUZZ_SEED") or 1)
#: How many times as many inputs as `make test` tries.
TIMES = int(os.environ.get("FUZZ_TIMES") or 1)

Test = TypeVar("Test", bound=Callable[..., object])

#: How many inputs were tried, by what they were for.
tried: Counter[str] = Counter()


def fuzz(examples: int) -> Callable[[Test], Test]:
    """Run a test of Hypothesis with so many examples, or `TIMES` as many, that `SEED` decides."""
    chosen = settings(
        max_examples=examples * TIMES,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def decorated(test: Test) -> Test:
        seeded: Test = seed(SEED)(chosen(test))
        return seeded

    return decorated


class Watched(logging.Handler):
    """Keeps what is logged as an error, and every traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take note; see `logging.Handler`."""
        if record.levelno >= logging.ERROR or record.exc_info:
            self._errors.append(self.format(record))

    def watch(self) -> None:
        """Hear of everything. A server that starts configures uvicorn's logs anew."""
        for name in ("", "uvicorn"):
            logging.getLogger(name).addHandler(self)

    def taken(self) -> list[str]:
        """Return what was kept since the last time."""
        errors, self._errors = self._errors, []
        return errors


#: What the gateways of this process have logged.
log = Watched()
