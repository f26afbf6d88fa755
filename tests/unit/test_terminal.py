"""What a table does with long texts, and with what a terminal would obey."""

from __future__ import annotations

import io

import pytest

from inferline.terminal import columns, printable, printable_lines, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\r", "\n", "\x7f", "\x9b", "\u202e", "\u200b"])
def test_what_a_terminal_would_obey_is_replaced(char: str) -> None:
    assert "a?[2J" == printable(f"a{char}[2J")
    assert ["head", "a?b"] == table([["head"], [f"a{char}b"]]).splitlines()


def test_lines_stay_lines() -> None:
    assert "é: 1\n?[2J\n" == printable_lines("é: 1\n\x1b[2J\n")


def test_numbers_stand_at_the_right_and_texts_at_the_left() -> None:
    rows = [("name", "count", "share"), ("a", 7, 0.5), ("long", 123456, None)]

    assert ["name   count  share", "a          7    0.5", "long  123456      -"] == table(
        rows
    ).splitlines()


def test_without_a_width_a_table_is_whole() -> None:
    assert "x" * 500 in table([("id", "why"), ("p", "x" * 500)])


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_table_fits_its_terminal(width: int) -> None:
    rows = [("id", "count", "models", "why"), ("p1", 12345678, "m" * 60, "w" * 90)]

    lines = table(rows, width).splitlines()

    assert max(map(len, lines)) <= width
    assert ("…" in lines[1]) == (width < 170)


def test_the_longest_texts_are_cut_first_and_numbers_never() -> None:
    rows = [("id", "n", "why"), ("provider-1", 1234567890123, "w" * 90)]

    [_, line] = table(rows, 50).splitlines()

    assert line == f"provider-1  1234567890123  {'w' * 22}…"


def test_only_a_terminal_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "93")

    assert None is columns(io.StringIO())
    assert 93 == columns(Terminal())
