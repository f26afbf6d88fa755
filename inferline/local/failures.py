"""
Why the one-machine mode ends, with the exit code that each reason becomes.

    0    ended by Ctrl-C or SIGTERM
    2    an option or its variable is wrong
    3    a part is missing, or a port is taken: nothing was left running
    4    a part did not come up, or died
    130  ended at once by a second Ctrl-C
"""

from __future__ import annotations

OK = 0
USAGE = 2
MISSING = 3
FAILED = 4
KILLED = 130


class LocalError(Exception):
    """A failure that ends the one-machine mode; the message is one sentence for the terminal."""

    exit_code = FAILED


class PartMissing(LocalError):
    """A program, file or free port that a part needs and this machine lacks."""

    exit_code = MISSING


class PartFailed(LocalError):
    """A part that did not start, or ended by itself."""

    exit_code = FAILED
