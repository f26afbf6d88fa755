"""Limits: how much a key or a tenant may use, per minute, per day and at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Final, Literal, Self

from inferline.settings import Settings

#: The largest limit that can be set: no window ever comes near, and every JSON parser reads it.
LIMIT_MAX: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Limits of a key or a tenant. 0 is no limit; None takes the setting's value.

    Windows are fixed: the minute and the day of UTC.
    """

    requests_per_minute: int | None = None
    #: Tokens of prompt and answer together, here and below.
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    #: Requests under way at the same time.
    concurrent_requests: int | None = None

    def over(self, defaults: Limits) -> Limits:
        """Return these limits, with those of ``defaults`` where one is not set."""
        return replaced(defaults, self.as_dict())

    @property
    def exist(self) -> bool:
        """Return True if there is any limit."""
        return any(astuple(self))

    def as_dict(self) -> dict[str, int]:
        """Return the limits that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read the limits of a row. A later release may store some that are not known here."""
        return cls(**{name: row[name] for name in NAMES if name in row})

    def text(self) -> str:
        """Return the limits that are set as text: ``requests_per_minute=60 tokens_per_day=0``."""
        return " ".join(f"{name}={value}" for name, value in self.as_dict().items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the limits that `text` has written."""
        pairs = (part.partition("=") for part in text.split())
        return cls.from_row({name: int(value) for name, _, value in pairs})


NAMES: Final = tuple(spec.name for spec in fields(Limits))
#: No limits of its own: the settings' values hold.
UNSET: Final = Limits()


def replaced(limits: Limits, changes: Mapping[str, int | None]) -> Limits:
    """Return ``limits`` with some of them replaced."""
    return Limits(**{**asdict(limits), **changes})


def default_limits(settings: Settings, kind: Literal["key", "tenant"]) -> Limits:
    """Return the limits of a key or a tenant that has none of its own."""
    return Limits(**{name: getattr(settings, f"{kind}_{name}") for name in NAMES})
