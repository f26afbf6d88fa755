"""Options: one declaration gives names, help, checks, warnings and documentation."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, dataclass
from typing import Any

import pytest

from inferline.options import (
    SettingsError,
    add_arguments,
    declare,
    markdown,
    options_of,
    read,
    read_context,
    renamed,
    unknown,
)
from inferline.parsing import parse_int, parse_list, parse_names


@dataclass(frozen=True, kw_only=True)
class Belt:
    """Options of every kind."""

    motor: str = declare(MISSING, "Address of the motor.", flag="--motor", metavar="URL")
    speed: float = declare(
        1.5, "Metres per second.", flag="--speed", old_names=("--pace", "INFERLINE_PACE")
    )
    length: int = declare(7, "Metres.", flag="--length", between=(1, 20), zero="endless")
    color: str = declare(
        "red",
        "Color, 100 % opaque.",
        flag="--color",
        choices=("red", "green", "blue"),
        old_values={"crimson": "red"},
    )
    loud: bool = declare(False, "Make noise.", variable="LOUD", flag="--loud", group="noise")
    parts: tuple[str, ...] = declare((), "Parts.", flag="--part", repeats=True, metavar="NAME")
    key: str = declare("", "Key.", flag="--key", secret=True, choices=("", "a", "b"))

    def problems(self) -> list[str]:
        return ["loud belts are red"] if self.loud and self.color != "red" else []


@dataclass(frozen=True, kw_only=True)
class Context:
    """Options of the CDK's context."""

    models: tuple[str, ...] = declare((), "Models.", in_context=True, old_names=("llms",))
    waf: bool = declare(False, "Firewall.", in_context=True)
    days: int = declare(3, "Days.", in_context=True)


def belt(*flags: str, **environ: str) -> Belt:
    return read(Belt, environ, arguments("--motor", "m", *flags))


def arguments(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Belt)
    return parser.parse_args(flags)


def test_without_anything_every_option_has_its_default() -> None:
    assert Belt(motor="m") == belt()


def test_a_flag_wins_over_its_variable_and_an_empty_text_is_none() -> None:
    assert 3 == belt("--speed", "3", INFERLINE_SPEED="4").speed
    assert 4 == belt(INFERLINE_SPEED="4").speed
    assert 4 == belt("--speed", "", INFERLINE_SPEED="4").speed
    assert 1.5 == belt(INFERLINE_SPEED="").speed


def test_each_kind_of_value_is_read_from_text() -> None:
    made = belt("--loud", "--part", "a,b", "--part", "c", INFERLINE_LENGTH="9")

    assert (True, ("a,b", "c"), 9) == (made.loud, made.parts, made.length)
    assert ("a", "b") == belt(INFERLINE_PARTS="a, b,").parts
    assert ("a,b",) == belt(INFERLINE_PARTS='["a,b"]').parts
    assert belt(LOUD="TRUE").loud
    assert not belt(LOUD="0").loud


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"INFERLINE_SPEED": "fast"}, "INFERLINE_SPEED (--speed) must be a number above 0"),
        ({"INFERLINE_SPEED": "0"}, "must be a number above 0, got '0'"),
        ({"INFERLINE_SPEED": "inf"}, "must be a number above 0, got 'inf'"),
        ({"INFERLINE_SPEED": "nan"}, "must be a number above 0, got 'nan'"),
        ({"INFERLINE_LENGTH": "21"}, "must be a whole number from 1 to 20, or 0: endless"),
        ({"INFERLINE_LENGTH": "-1"}, "must be a whole number from 1 to 20, or 0: endless"),
        ({"INFERLINE_LENGTH": "1.5"}, "must be a whole number from 1 to 20, or 0: endless"),
        ({"INFERLINE_COLOR": "Red"}, "must be red, green or blue, got 'Red'"),
        ({"LOUD": "yes"}, "LOUD (--loud) must be true or false, got 'yes'"),
        ({"INFERLINE_PARTS": "[1]"}, "must be a list of texts, got '[1]'"),
        ({"INFERLINE_PACE": "x"}, "INFERLINE_PACE (now INFERLINE_SPEED (--speed)) must be"),
        ({"LOUD": "1", "INFERLINE_COLOR": "blue"}, "loud belts are red"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        belt(**environ)

    assert problem in str(raised.value)


def test_all_problems_are_reported_at_once() -> None:
    environ = {"INFERLINE_SPEED": "x", "INFERLINE_COLOR": "blue", "LOUD": "1"}

    with pytest.raises(SettingsError) as incomplete:
        read(Belt, environ)
    with pytest.raises(SettingsError) as complete:
        belt(**environ)

    wrong = "INFERLINE_SPEED (--speed) must be a number above 0, got 'x'"
    missing = "INFERLINE_MOTOR (--motor) must be set: address of the motor"
    assert f"{missing}; {wrong}" == str(incomplete.value)
    assert f"{wrong}; loud belts are red" == str(complete.value)


def test_a_problem_repeats_no_secret() -> None:
    with pytest.raises(SettingsError) as raised:
        belt(INFERLINE_KEY="hidden", INFERLINE_COLOR="http://user:hidden@host")

    assert "INFERLINE_KEY (--key)" in str(raised.value)
    assert "INFERLINE_COLOR (--color)" in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert "hidden" not in repr(belt(INFERLINE_KEY="a"))


def test_old_names_and_values_work_with_a_warning() -> None:
    given = arguments("--motor", "m", "--pace", "3", "--color", "crimson")
    environ = {"INFERLINE_PACE": "4"}

    assert (3, "red") == (read(Belt, environ, given).speed, read(Belt, environ, given).color)
    assert [
        "--pace is now called INFERLINE_SPEED (--speed); the next release ignores --pace",
        "--color=crimson is deprecated: write red instead",
    ] == renamed(Belt, vars(given), environ)
    assert 4 == belt(**environ).speed
    assert 5 == belt(INFERLINE_SPEED="5", **environ).speed


def test_an_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    known = {name for option in options_of(Belt) for name in option.names}
    environ = {"INFERLINE_SPED": "x", "INFERLINE_XYZ": "x", "INFERLINE_PACE": "1", "SPED": "x"}

    assert [
        "INFERLINE_SPED has no effect: no part of InferLine reads it; "
        "did you mean INFERLINE_SPEED?",
        "INFERLINE_XYZ has no effect: no part of InferLine reads it",
    ] == unknown(environ, known)


def test_the_help_names_variable_bounds_and_default() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Belt)
    text = " ".join(parser.format_help().split())

    assert "--motor URL Address of the motor. [INFERLINE_MOTOR; required]" in text
    assert "--length N Metres. From 1 to 20. 0: endless. [INFERLINE_LENGTH; default: 7]" in text
    assert "--color N Color, 100 % opaque. [INFERLINE_COLOR; default: red]" in text
    assert "noise: --loud Make noise. [LOUD]" in text
    assert "--pace" not in text


def test_the_documentation_is_a_table_with_defaults() -> None:
    lines = markdown(Belt).splitlines()

    assert "| flag | variable | default | meaning |" == lines[0]
    assert "| `--motor` | `INFERLINE_MOTOR` | required | Address of the motor. |" in lines
    assert "| `--speed` | `INFERLINE_SPEED` | `1.5` | Metres per second. |" in lines
    assert "| `--loud` | `LOUD` | `false` | Make noise. |" in lines
    assert "| `models` | none | Models. |" in markdown(Context).splitlines()


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"models": ["a"], "waf": True, "days": 7.0}, Context(models=("a",), waf=True, days=7)),
        (
            {"models": "a,b", "waf": "true", "days": "7"},
            Context(models=("a", "b"), waf=True, days=7),
        ),
        ({"llms": ["a"]}, Context(models=("a",))),
    ],
)
def test_the_context_holds_json_or_text(context: dict[str, Any], expected: Context) -> None:
    assert expected == read_context(Context, context)


def test_the_context_has_old_names_too() -> None:
    assert ["llms is now called models; the next release ignores llms"] == renamed(
        Context, {"llms": ["a"]}
    )


def test_an_unknown_key_of_the_context_is_refused_and_an_empty_one_counts() -> None:
    with pytest.raises(SettingsError) as raised:
        read_context(Context, {"modles": [], "days": "", "waf": None})

    assert str(raised.value) == (
        "modles is not an option; did you mean models?; waf must be true or false, got None; "
        "days must be a whole number above 0, got ''"
    )


def test_a_whole_number_may_have_a_point_and_a_name_a_bracket() -> None:
    assert 8 == parse_int("8.0")
    assert ("[org]/m", "b") == parse_names("[org]/m, b")
    assert ("a", "b") == parse_list('["a", "b"]')
