"""The code's words: what a name says, how a docstring begins, how many modules a folder shows."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("inferline", "provider", "functions", "infra")
EVERYTHING = (*PRODUCT, "bench", "tests")
FOLDERS = ("inferline", "provider/inferline_provider", "bench")
FOLDER_MODULES_MAX = 14

#: Names that say nothing of the thing that they name.
EMPTY_NAMES = frozenset({"told", "found", "these", "those"})

#: A function's docstring says what the function does, so it begins with a verb. No tool knows all
#: verbs: these are the words that began the docstrings that were none.
NO_VERBS = frozenset(
    [
        *("a", "about", "after", "all", "an", "another", "any", "as", "at", "before", "both", "by"),
        *(
            "each",
            "every",
            "everybody",
            "everything",
            "for",
            "from",
            "how",
            "if",
            "in",
            "it",
            "its",
        ),
        *(
            "no",
            "nobody",
            "none",
            "nothing",
            "of",
            "on",
            "one",
            "only",
            "other",
            "others",
            "several",
        ),
        *("so", "some", "somebody", "something", "that", "the", "their", "there", "these", "they"),
        *("this", "those", "to", "two", "what", "whatever", "when", "where", "whether", "which"),
        *("who", "whoever", "whom", "whose", "why", "with", "without"),
    ]
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*tops: str) -> Iterator[Path]:
    for top in tops:
        for path in sorted((ROOT / top).rglob("*.py")):
            if not {"node_modules", "semgrep"} & set(path.parts):
                yield path


@cache
def tree(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def nodes(*tops: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in modules(*tops):
        for node in tree(path):
            yield path, node


def first_word(node: Function | ast.ClassDef) -> str:
    words = (ast.get_docstring(node) or "").split()
    return words[0].strip(",.:;'`").lower() if words else ""


def test_a_name_says_what_it_names() -> None:
    offenders = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in nodes(*EVERYTHING)
        if (isinstance(node, ast.Name) and node.id in EMPTY_NAMES)
        or (isinstance(node, ast.arg) and node.arg in EMPTY_NAMES)
        or (isinstance(node, ast.Attribute) and node.attr in EMPTY_NAMES)
        or (isinstance(node, Function) and node.name in EMPTY_NAMES)
    }

    assert set() == offenders


def test_a_functions_docstring_begins_with_a_verb() -> None:
    offenders = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in nodes(*EVERYTHING)
        if isinstance(node, Function)
        and not node.name.startswith("test_")  # Its claim is its name.
        and first_word(node) in NO_VERBS
    }

    assert set() == offenders


def test_a_classs_docstring_begins_with_a_noun() -> None:
    questions = {"how", "what", "where", "whether", "which", "who", "whoever", "why", "whose"}
    offenders = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in nodes(*EVERYTHING)
        if isinstance(node, ast.ClassDef) and first_word(node) in questions
    }

    assert set() == offenders


def test_a_type_name_has_one_meaning() -> None:
    homes = defaultdict(set)
    for path, node in nodes(*PRODUCT):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            homes[node.name].add(str(path.relative_to(ROOT)))

    assert {} == {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_a_folder_shows_its_parts() -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in modules(*FOLDERS):
        if not path.name.startswith("__"):
            counts[str(path.parent.relative_to(ROOT))] += 1

    assert {} == {folder: count for folder, count in counts.items() if count > FOLDER_MODULES_MAX}
