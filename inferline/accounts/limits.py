"""Limits: how much a key or a tenant may ask for, in a minute, in a day and at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Final, Self

#: The largest limit that can be set: no window ever comes near, and every JSON parser reads it.
LIMIT_MAX: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one key or one tenant may ask for. 0 is no limit, None is what the settings say.

    Windows are fixed: the minute and the day of UTC.
    """

    requests_per_minute: int | None = None
    #: Of prompt and answer together, here and below.
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    #: How many requests may be under way at once.
    concurrent_requests: int | None = None

    def over(self, defaults: Limits) -> Limits:
        """These, and those of ``defaults`` where nothing is set."""
        return replaced(defaults, self.told())

    @property
    def exist(self) -> bool:
        """Whether there is any."""
        return any(astuple(self))

    def told(self) -> dict[str, int]:
        """Those that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """The limits of a row. A later release may keep some that are not known here."""
        return cls(**{name: told[name] for name in NAMES if name in told})

    def text(self) -> str:
        """What is set, as text such as ``requests_per_minute=60 tokens_per_day=0``."""
        return " ".join(f"{name}={value}" for name, value in self.told().items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The limits that `text` has told."""
        pairs = (part.partition("=") for part in text.split())
        return cls.of({name: int(value) for name, _, value in pairs})


NAMES: Final = tuple(spec.name for spec in fields(Limits))
#: Of whom nothing was told: all is as the settings say.
UNSET: Final = Limits()


def replaced(limits: Limits, told: Mapping[str, int | None]) -> Limits:
    """``limits`` with others in place of those that are ``told``."""
    return Limits(**{**asdict(limits), **told})
