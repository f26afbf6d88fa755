"""A part of the one-machine mode: a process, and how to supervise it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the one-machine mode."""

    name: str
    #: Its description, for the line on the terminal.
    what: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    #: Names of the parts that must be ready first.
    after: tuple[str, ...] = ()
    #: Raises web.NoAnswer until the part is up. None: it is done once it has ended well.
    ready: Callable[[], object] | None = None
    #: How long it may take to come up.
    patience_seconds: float = 60.0
    #: How long it may take to end by itself once asked to.
    drain_seconds: float = 5.0
    #: True if it is started again when it ends; if another part ends, all do.
    revive: bool = False
    #: True if its output goes to the terminal and not into its log.
    uses_terminal: bool = False
