"""
What the Lambda functions run, as one folder: made from the lock file, without Docker, and the
same bytes each time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

Architecture = Literal["arm64", "x86_64"]

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements" / "functions.txt"
#: What is ours in it; the page's files are there for the function that publishes them.
FOLDERS: Final = ("inferline", "functions", "dashboard")
#: What only a gateway of one's own needs; and a faster event loop, which takes a quarter of the
#: bundle and brings nothing to a process that has one request at a time.
UNUSED: Final = ("inferline/local", "prometheus_client", "uvloop")
RUN_SCRIPT: Final = "functions/run.sh"

#: Where Lambda unpacks it: what a traceback shows.
TASK_ROOT: Final = "/var/task"
#: The oldest glibc that Lambda's runtimes have is newer than this.
PLATFORMS: Final[dict[Architecture, str]] = {
    "arm64": "aarch64-manylinux2014",
    "x86_64": "x86_64-manylinux2014",
}
#: The services whose descriptions botocore may read there; those of all others are 25 MB.
BOTOCORE_SERVICES: Final = frozenset({"dynamodb", "s3", "sqs", "sts", "xray"})
#: Folders that no code imports in production, and files that only tools read.
NEVER_RUN: Final = ("**/tests", "**/testing", "bin", "**/__pycache__")
NEVER_READ: Final = (
    ".lock",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.c",
    "**/*.h",
    "**/py.typed",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_cache.json",
)
#: Zip files can't hold an earlier time; assets are told apart by content, not by time.
EPOCH: Final = 315532800 + 86400


class BundleError(Exception):
    """The bundle could not be made; the message says what to do."""


def bundle(output_dir: Path, *, python: str, architecture: Architecture) -> None:
    """
    Fill ``output_dir``, which is made or emptied, for Lambda's runtime ``python``, such as 3.13.

    Raises BundleError. The bytecode is this interpreter's, so ``python`` has to be its version.
    """
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python != running:
        raise BundleError(f"Bytecode for Python {python} can't be made by Python {running}.")
    if output_dir.exists():
        shutil.rmtree(output_dir)
    output_dir.mkdir(parents=True)
    _install(output_dir, python, architecture)
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / folder, output_dir / folder, ignore=ignored)
    _prune(output_dir)
    _compile(output_dir)
    _level(output_dir)


def _install(target: Path, python: str, architecture: Architecture) -> None:
    command = [
        *(_uv(), "pip", "install", "--quiet", "--no-config", "--require-hashes"),
        *("--requirement", str(LOCK), "--target", str(target), "--no-deps"),
        *("--python-platform", PLATFORMS[architecture], "--python-version", python),
        *("--python", sys.executable, "--only-binary", ":all:", "--link-mode", "copy"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        raise BundleError(
            f"uv could not install the functions' packages:\n{error.stderr}"
        ) from None


def _uv() -> str:
    """Return the uv that runs this, or that there is, or that make has fetched."""
    own = ROOT / ".tools" / "uv" / "bin" / "uv"
    program = os.environ.get("UV") or shutil.which("uv") or (str(own) if own.exists() else None)
    if program is None:
        raise BundleError("There is no uv. `make install` fetches it.")
    return program


def _prune(target: Path) -> None:
    """Remove what the functions never run and never read."""
    services = (p for p in (target / "botocore" / "data").iterdir() if p.is_dir())
    unused = [p for p in services if p.name not in BOTOCORE_SERVICES]
    never_run = (path for pattern in NEVER_RUN for path in target.glob(pattern))
    for folder in [*unused, *never_run, *(target / name for name in UNUSED)]:
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in NEVER_READ:
        for file in target.glob(pattern):
            file.unlink()


def _compile(target: Path) -> None:
    """
    Put the bytecode beside each module, to be taken without a look at the source.

    Lambda can't write it there, and compiling takes several times as long as all else at a start.
    One process does it, with a fixed seed: the order in sets and the references that bytecode
    holds are otherwise of the moment.
    """
    command = [
        *(sys.executable, "-m", "compileall", "-q", "-f", "-j", "1"),
        *("--invalidation-mode", "unchecked-hash"),
        *("-s", str(target), "-p", TASK_ROOT, str(target)),
    ]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(  # noqa: S603
        command, env=environ, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BundleError(f"Not every module of the bundle compiles:\n{done.stdout}{done.stderr}")


def _level(target: Path) -> None:
    """Give every file the same time, and only the script the right to be run."""
    for path in _tree(target):
        executable = path.is_dir() or path == target / RUN_SCRIPT
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (EPOCH, EPOCH))


def _tree(target: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(target, topdown=False):
        yield from (Path(folder) / name for name in files)
        yield Path(folder)


def main() -> int:
    """Make a bundle and tell its size."""
    parser = argparse.ArgumentParser(prog="python -m infra.bundle", description=__doc__)
    parser.add_argument("output", type=Path, help="a folder; what is in it goes")
    host = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    parser.add_argument("--architecture", choices=PLATFORMS, default="arm64", help=f"here: {host}")
    options = parser.parse_args()
    begun = time.monotonic()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        bundle(options.output, python=version, architecture=options.architecture)
    except BundleError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in _tree(options.output) if path.is_file())
    seconds = time.monotonic() - begun
    print(f"{options.output}: {size / 1e6:.1f} MB unpacked, made in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
