"""The last lines of a run: its slowest files, and what fuzzing tried, of all workers together."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support import fuzzing

#: How many files are named.
FILES = 10
#: The entry of a worker's output that holds its counts of fuzzed inputs.
_TRIED = "fuzzed"


class Reporting:
    """A plugin for the process that prints, and for the workers of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_sessionfinish(self) -> None:
        """Hand a worker's counts to the process that prints."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_TRIED] = dict(fuzzing.tried)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Add the counts of a worker that has ended."""
        fuzzing.tried.update(getattr(node, "workeroutput", {}).get(_TRIED, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the slowest files; and how many inputs there were, and what repeats them."""
        seconds: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport):
                    seconds[report.nodeid.partition("::")[0]] += report.duration
        if len(seconds) > 1:
            terminalreporter.write_line(f"slowest files (of {len(seconds)}):")
            for file, duration in seconds.most_common(FILES):
                terminalreporter.write_line(f"  {duration:>7.1f} s  {file}")
        tried = fuzzing.tried
        if tried:
            setting = f"FUZZ_SEED={fuzzing.SEED} FUZZ_TIMES={fuzzing.TIMES}"
            terminalreporter.write_line(f"fuzzed: {tried.total():,} inputs, {setting}")
            for what, count in sorted(tried.items()):
                terminalreporter.write_line(f"  {count:>8,}  {what}")
