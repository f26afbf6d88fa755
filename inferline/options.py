"""
Options: a dataclass's field declares each once, and gives its environment variable, flag or CDK
context key, its help, its checks and its row in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from inferline.parsing import parse_bool, parse_float, parse_int, parse_list, parse_text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

T = TypeVar("T")
#: Values by the names that the user wrote; an earlier source wins.
Sources = Sequence[Mapping[str, object]]

PREFIX: Final = "INFERLINE_"


class SettingsError(ValueError):
    """One or more options can't be used; the message names each."""


_PARSERS: Final[Any] = {bool: parse_bool, int: parse_int, float: parse_float, tuple: parse_list}
_NUMBERS: Final = {parse_int: "a whole number", parse_float: "a number"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """One option: its names, its meaning and the values that it takes."""

    #: The field's name and default.
    name: str = ""
    default: Any = MISSING
    #: The meaning, in sentences.
    help: str
    parse: Callable[[Any], Any]
    #: The environment variable; empty: ``INFERLINE_`` and the name.
    variable: str = ""
    flag: str = ""
    #: The CDK's context has it, by its name, and the environment does not.
    in_context: bool = False
    #: Old names of any kind, and new values by the old ones; one release accepts the old.
    old_names: tuple[str, ...] = ()
    old_values: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[Any, ...] = ()
    #: The least and the greatest number; None: any number above 0.
    between: tuple[int, int] | None = None
    #: What 0 means; empty: 0 is refused unless it is in the bounds.
    zero: str = ""
    #: The default in words, where it depends on something else.
    default_text: str = ""
    secret: bool = False
    #: In the help: what stands for the value, and the group's heading.
    metavar: str | None = None
    group: str = ""
    #: The flag may be given several times.
    repeats: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names that can set it; the first wins."""
        today = (self.name,) if self.in_context else (self.flag, self.variable)
        return (*filter(None, today), *self.old_names)

    @property
    def title(self) -> str:
        """Return its names of today, for messages."""
        if self.in_context:
            return self.name
        return f"{self.variable} ({self.flag})" if self.flag else self.variable

    @property
    def sentences(self) -> str:
        """Return the meaning with the bounds."""
        bounds = f" From {self.between[0]} to {self.between[1]}." if self.between else ""
        return self.help + bounds + (f" 0: {self.zero}." if self.zero else "")

    @property
    def requirement(self) -> str:
        """Return what a value must be; empty if the parser says it."""
        if self.choices:
            *first, last = map(str, self.choices)
            return f"must be {', '.join(first)} or {last}"
        if self.parse not in _NUMBERS:
            return ""
        bounds = f"from {self.between[0]} to {self.between[1]}" if self.between else "above 0"
        zero = f", or 0: {self.zero}" if self.zero else ""
        return f"must be {_NUMBERS[self.parse]} {bounds}{zero}"

    def value(self, raw: object) -> Any:
        """Return the checked value. Raises ValueError saying what it must be."""
        if isinstance(raw, str):
            raw = self.old_values.get(raw.lower(), raw)
        try:
            value = self.parse(raw)
        except ValueError as error:
            raise ValueError(self.requirement or str(error)) from None
        if not self._allows(value):
            raise ValueError(self.requirement)
        return value

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.parse not in _NUMBERS or (self.zero and value == 0):
            return True
        if self.between:
            return bool(self.between[0] <= value <= self.between[1])
        return bool(0 < value < math.inf)


def declare(default: Any, help: str, **declared: Any) -> Any:
    """Declare a field as an option, by the attributes of `Option`; MISSING makes it required."""
    declared.setdefault("parse", _PARSERS.get(type(default), parse_text))
    made = Option(default=default, help=help, **declared)
    how: dict[str, Any] = {"repr": not made.secret, "metadata": {"option": made}}
    if isinstance(default, dict):
        return field(default_factory=default.copy, **how)
    return field(default=default, **how)


def declare_log_level(**declared: Any) -> Any:
    """Declare the option that says how much a process logs."""
    return declare(
        "info",
        "How much to log: debug, info, warning or error.",
        parse=lambda value: parse_text(value).lower(),
        choices=("debug", "info", "warning", "error"),
        flag="--log-level",
        metavar="LEVEL",
        **declared,
    )


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass declares."""
    return _options_of(cast("Any", kind))


@cache
def _options_of(kind: Any) -> tuple[Option, ...]:
    declared = {spec.name: spec.metadata["option"] for spec in fields(kind) if spec.metadata}
    return tuple(
        replace(option, name=name, variable=option.variable or PREFIX + name.upper())
        for name, option in declared.items()
    )


def read(
    kind: type[T], environ: Mapping[str, str], arguments: Namespace | None = None, **more: Any
) -> T:
    """
    Return the options of the command line and the environment; ``more`` are other fields' values.

    An empty text counts as none. Raises SettingsError with all problems.
    """
    given = _without_empty(vars(arguments) if arguments else {})
    return _read(kind, (given, _without_empty(environ)), [], more)


def read_context(kind: type[T], context: Mapping[str, object]) -> T:
    """Return the options of the CDK's context. Raises SettingsError with all problems."""
    known = [name for option in options_of(kind) for name in option.names]
    strange = [name for name in context if name not in known]
    problems = [f"{name} is not an option{_nearest(name, known)}" for name in strange]
    return _read(kind, (context,), problems, {})


def _without_empty(source: Mapping[str, object]) -> dict[str, object]:
    return {name: raw for name, raw in source.items() if raw not in (None, "")}


def _read(kind: type[T], sources: Sources, problems: list[str], values: dict[str, Any]) -> T:
    for option in options_of(kind):
        given = _given(option, sources)
        if given is None:
            if option.default is MISSING:
                meaning = option.help[0].lower() + option.help[1:].rstrip(".")
                problems.append(f"{option.title} must be set: {meaning}")
            continue
        name, raw = given
        try:
            values[option.name] = option.value(raw)
        except ValueError as error:
            title = f"{name} (now {option.title})" if name in option.old_names else option.title
            problems.append(f"{title} {error}{_echo(option, raw)}")
    required = {option.name for option in options_of(kind) if option.default is MISSING}
    if required <= values.keys():
        made = kind(**values)
        problems += getattr(made, "problems", list)()
        if not problems:
            return made
    raise SettingsError("; ".join(problems))


def _given(option: Option, sources: Sources) -> tuple[str, object] | None:
    for source in sources:
        for name in option.names:
            if name in source:
                return name, source[name]
    return None


def _echo(option: Option, raw: object) -> str:
    """Repeat the value unless it may be a secret: an address may have a password before its @."""
    return "" if option.secret or "@" in str(raw) else f", got {raw!r}"


def renamed(kind: type[Any], *sources: Mapping[str, object]) -> list[str]:
    """Return a warning for each old name and value; later sources are the weaker ones."""
    warnings = []
    for option in options_of(kind):
        name, raw = _given(option, [_without_empty(source) for source in sources]) or ("", None)
        if name in option.old_names:
            warnings.append(f"{name} is now called {option.title}; the next release ignores {name}")
        if isinstance(raw, str) and (new := option.old_values.get(raw.lower())) is not None:
            warnings.append(f"{name}={raw} is deprecated: write {new} instead")
    return warnings


def unknown(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return a warning for each variable ``INFERLINE_…`` that no part of InferLine reads."""
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [
        f"{name} has no effect: no part of InferLine reads it{_nearest(name, known)}"
        for name in strange
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    ends = {other.removeprefix(PREFIX): other for other in known}
    matches = get_close_matches(name.removeprefix(PREFIX), ends, n=1)
    return f"; did you mean {ends[matches[0]]}?" if matches else ""


def add_arguments(parser: ArgumentParser, kind: type[Any]) -> None:
    """Add the flags of a dataclass's options; `read` takes what the parser returns."""
    groups: dict[str, Any] = {"": parser}
    for option in options_of(kind):
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        for flag in option.names:
            if flag.startswith("--"):
                _add_flag(groups[option.group], option, flag)


def _add_flag(group: Any, option: Option, flag: str) -> None:
    from argparse import SUPPRESS

    # The flag is its own destination, so that `read` knows which of two names was used.
    how: dict[str, Any] = {"dest": flag, "help": _help(option) if flag == option.flag else SUPPRESS}
    if option.parse is parse_bool:
        how |= {"action": "store_const", "const": "true"}
    else:
        how |= {"metavar": option.metavar or "N", "action": "append" if option.repeats else "store"}
    group.add_argument(flag, **how)


def _help(option: Option) -> str:
    default = _default(option).replace("`", "")
    notes = option.variable
    if option.default is MISSING:
        notes += "; required"
    elif option.parse is not parse_bool and default != "none":
        notes += f"; default: {default}"
    return f"{option.sentences} [{notes}]".replace("%", "%%")


def markdown(kind: type[Any]) -> str:
    """Return a dataclass's options as a table, for the documentation."""
    options = options_of(kind)
    if options[0].in_context:
        columns = {"option": "name"}
    else:
        columns = {"flag": "flag"} if options[0].flag else {}
        columns["variable"] = "variable"
    table = [[*columns, "default", "meaning"], ["---"] * (len(columns) + 2)]
    for option in options:
        names = [f"`{getattr(option, name)}`" for name in columns.values()]
        table.append([*names, _default(option), option.sentences])
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _default(option: Option) -> str:
    if option.default_text or option.default is MISSING:
        return option.default_text or "required"
    if option.default in (None, "", (), {}):
        return "none"
    if isinstance(option.default, bool):
        return f"`{option.default}`".lower()
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"
