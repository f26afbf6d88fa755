"""The bundle: all that the functions need, nothing else, and the same bytes each time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from infra.bundle import NEVER_RUN, Architecture, BundleError, bundle
from tests.support import runtime_api
from tests.support.cloud import Cloud, invoked, recorded

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
HOST: Architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
FUNCTIONS = ("inference", "control", "authorizer", "dead_letters", "sweep", "publisher")
#: What Lambda takes, unpacked.
BYTES_MAX = 250 * 1024 * 1024
#: In the head of bytecode: to be taken by its hash, and without a check of the source.
UNCHECKED_HASH = (1).to_bytes(4, "little")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bundle is made for Linux")


def made(folder: Path, architecture: Architecture = HOST) -> Path:
    try:
        bundle(folder, python=VERSION, architecture=architecture)
    except BundleError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle for this machine."""
    return made(tmp_path_factory.mktemp("bundle") / "code")


def contents(folder: Path) -> dict[str, tuple[str, int, float]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mode,
            path.stat().st_mtime,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_starts_on_the_bundle_alone(code: Path, name: str) -> None:
    statement = f"import sys; sys.path.insert(0, {str(code)!r}); import functions.{name}"
    environ = {"AWS_REGION": "us-east-1"}

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-B", "-c", statement],
        env=environ,
        capture_output=True,
        text=True,
    )

    assert "" == done.stderr


async def test_a_function_answers_from_the_bundle(cloud: Cloud, code: Path) -> None:
    key_id, text = await cloud.key()
    event = recorded("authorizer", multiValueHeaders={"Authorization": [f"Bearer {text}"]})

    with runtime_api.running("functions.authorizer.handler", cloud.environ, code) as function:
        result = await invoked(function, event)

    assert key_id == result.value["principalId"]


def test_the_same_lock_and_sources_give_the_same_bytes(code: Path, tmp_path: Path) -> None:
    assert contents(code) == contents(made(tmp_path / "again"))


def test_it_is_made_for_a_machine_that_this_one_is_not(tmp_path: Path) -> None:
    other: Architecture = "x86_64" if HOST == "arm64" else "arm64"

    code = made(tmp_path / "other", other)

    marks = {"arm64": "aarch64", "x86_64": "x86_64"}
    libraries = [path.name for path in code.rglob("*.cpython-*.so")]
    assert libraries
    assert all(marks[other] in name for name in libraries)


def test_every_module_has_its_bytecode_which_nobody_checks(code: Path) -> None:
    tag = sys.implementation.cache_tag
    for module in code.rglob("*.py"):
        compiled = module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc"
        assert UNCHECKED_HASH == compiled.read_bytes()[4:8], module


def test_what_no_function_needs_is_not_in_it(code: Path) -> None:
    names = {path.name for path in code.iterdir()}

    assert not names & {"boto3", "moto", "ministack", "uvloop", "prometheus_client"}
    assert not names & {"tests", "infra", "bin", ".lock"}
    assert not (code / "inferline" / "local").exists()
    assert not [path for kind in NEVER_RUN[:2] for path in code.glob(kind)]
    assert sum(path.stat().st_size for path in code.rglob("*") if path.is_file()) < BYTES_MAX / 4
    assert os.access(code / "functions" / "run.sh", os.X_OK)


def test_bytecode_of_another_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"Python 3\.1 can't be made"):
        bundle(tmp_path / "none", python="3.1", architecture=HOST)
