"""What a part of the one-machine mode is: a process, and what must be known to look after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the one-machine mode."""

    name: str
    #: What it is, for the line on the terminal.
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
    #: Whether it is started again when it ends; all ends if one of the others does.
    revive: bool = False
    #: Whether its output belongs on the terminal and not into its log.
    shown: bool = False
