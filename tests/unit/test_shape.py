"""The code's own shape: sizes, what is shipped, how errors look, what the papers say of them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inferline import errors

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("inferline/**/*.py"), *ROOT.glob("provider/**/*.py")])
PAPERS = sorted(
    path for where in ("", "docs/", "provider/", "bench/") for path in ROOT.glob(f"{where}*.md")
)
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

FUNCTION_LINES_MAX = 50
MODULE_LINES_MAX = 400
README_LINES_MAX = 120

ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.InferLineError)
]
#: The groups are never raised themselves, and a lost lease is between a provider and the store.
MET_BY_CLIENTS = [
    error for error in ERRORS if not error.__subclasses__() and error is not errors.LeaseLost
]

#: What OpenAI itself calls them when a limit is reached.
OPENAI_TYPES = ("requests", "tokens", "insufficient_quota")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_function_fits_on_a_screen() -> None:
    long = {
        (named(path), name): lines
        for path in SOURCES
        for name, lines in functions(path)
        if lines > FUNCTION_LINES_MAX
    }

    assert long == {}


def test_a_module_is_one_idea_long() -> None:
    counts = {named(path): len(path.read_text().splitlines()) for path in SOURCES}

    assert {} == {name: lines for name, lines in counts.items() if lines > MODULE_LINES_MAX}


def test_the_readme_is_a_front_door() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_two_import_names(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}

    assert {"inferline", "inferline_provider"} == {
        top for top in tops if not top.endswith(".dist-info")
    }


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(wheel: list[str]) -> None:
    modules = {str(path.relative_to(ROOT)).removeprefix("provider/") for path in SOURCES}

    assert modules | {"inferline/py.typed", "inferline_provider/py.typed"} <= set(wheel)


def test_the_wheel_holds_the_dashboard(wheel: list[str]) -> None:
    page = {f"inferline/dashboard/{path.name}" for path in ROOT.glob("dashboard/*")}

    assert {"inferline/dashboard/index.html"} <= page <= set(wheel)


@pytest.mark.parametrize("target", sorted(PYPROJECT["project"]["scripts"].values()))
def test_a_console_script_has_something_to_start(target: str) -> None:
    module, _, name = target.partition(":")

    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_says_what_a_client_must_know(error: type[errors.InferLineError]) -> None:
    fields = error().body()["error"]

    assert 400 <= error.status <= 599
    assert {"message", "type", "param", "code"} == set(fields)
    assert fields["type"] in OPENAI_TYPES or re.fullmatch(r"[a-z_]+_error", fields["type"])
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", fields["code"])
    assert fields["message"].endswith(".")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_tree_of_errors_is_drawn_as_it_is(error: type[errors.InferLineError]) -> None:
    drawn = re.search(rf"\b{error.__name__} +(.+)", errors.__doc__ or "")
    assert drawn, f"{error.__name__} is missing in the drawing"

    if drawn[1][:3].isdigit():
        assert [str(error.status), error.type, error.code] == drawn[1].split()


@pytest.mark.parametrize("error", MET_BY_CLIENTS, ids=lambda error: error.__name__)
def test_what_a_client_may_meet_stands_in_the_papers(error: type[errors.InferLineError]) -> None:
    row = f"| {error.status} | `{error.code}` | `{error.type}` | {error()} |"

    assert row in (ROOT / "docs/api.md").read_text().splitlines()


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def declared() -> list[Requirement]:
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    lists += PYPROJECT["dependency-groups"].values()
    wanted = [Requirement(text) for texts in lists for text in texts if isinstance(text, str)]
    return [one for one in wanted if one.name != project["name"]]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    pins = pinned(ROOT / "requirements/dev.txt")

    unmet = [
        str(wanted)
        for wanted in declared()
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"))
    ]

    assert unmet == [], "run `make lock`"


def test_the_demo_gets_the_versions_that_are_tested() -> None:
    tested = pinned(ROOT / "requirements/dev.txt")

    assert pinned(ROOT / "requirements/local.txt").items() <= tested.items()


@pytest.mark.parametrize("lock", LOCKS, ids=named)
def test_a_lock_does_not_say_where_packages_come_from(lock: Path) -> None:
    assert not re.search(r"://|^\s*--(index|extra-index|find-links)", lock.read_text(), re.M)


@pytest.mark.parametrize("paper", PAPERS, ids=named)
def test_a_link_leads_somewhere(paper: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", paper.read_text())

    lost = [link for link in links if "://" not in link and not (paper.parent / link).exists()]

    assert lost == []
