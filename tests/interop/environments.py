"""Installs what is tried, in pinned versions, into a folder outside the repository, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra import NODE

ROOT = Path(__file__).resolve().parents[2]
NPM = NODE.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
#: The longest that one installation may take: a slow line and 3 GB.
INSTALL_SECONDS_MAX = 1800
#: None of what is tried may talk to anybody but this machine, or to its maker.
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ANONYMIZED_TELEMETRY": "false",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "NO_COLOR": "1",
    "NO_PROXY": "127.0.0.1,localhost",
}


class Unavailable(Exception):
    """Lack of something to try here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Packages that are installed together, named by the version of the first."""

    name: str
    packages: Sequence[str]
    #: Installed before by pip, which takes PyTorch's build for the CPU where the machine has one.
    first: Sequence[str] = ()
    #: Installed afterwards, without what they ask for.
    bare: Sequence[str] = ()
    #: Requirements that stand in place of what the packages pin (uv's `--override`).
    overrides: Sequence[str] = ()
    #: Packages of the npm registry instead of Python's.
    node: bool = False
    #: The oldest Python that it runs on, if newer than the project's.
    python: tuple[int, int] = (3, 11)
    #: A Python file of `models/` that is run in it once, with the environment's own Python.
    finish: str = ""

    @property
    def version(self) -> str:
        """Return the version of what it is for."""
        first = (self.bare or self.packages)[0]
        return first.rpartition("@")[2] if self.node else first.rpartition("==")[2]


@dataclass(frozen=True)
class Places:
    """The folder of everything that `make interop` installs, makes and writes."""

    top: Path

    @property
    def logs(self) -> Path:
        """Return where what is tried runs and writes its logs."""
        return self.top / "logs"

    def of(self, environment: Environment) -> Path:
        """Return where an environment is, once it is ready."""
        return self.top / "envs" / f"{environment.name}-{environment.version}"

    def program(self, environment: Environment, name: str) -> str:
        """Return the path of a program in an environment."""
        inside = "node_modules/.bin" if environment.node else "bin"
        return str(self.of(environment) / inside / name)

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of every process that is tried: its home is a folder here."""
        home = self.top / "home"
        home.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join((str(NODE.parent), os.environ.get("PATH", os.defpath)))
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return {**kept, **QUIET, "PATH": path, "HOME": str(home), **more}

    def install(self, environment: Environment) -> None:
        """Make an environment unless it is there. Raises Unavailable where it can't be made."""
        folder = self.of(environment)
        if (folder / ".ready").exists():
            return
        print(f"  installing {environment.name} {environment.version}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            if environment.node:
                self._node(folder, environment)
            else:
                self._python(folder, environment)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise Unavailable(f"can't be installed: {said.strip()[-300:]}") from error
        (folder / ".ready").touch()

    def _node(self, folder: Path, environment: Environment) -> None:
        options = ("--no-audit", "--no-fund", "--loglevel", "error", "--prefix", str(folder))
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        # With the settings of whoever runs this: they may name another registry.
        path = os.pathsep.join((str(NODE.parent), os.environ.get("PATH", os.defpath)))
        env = {**os.environ, "PATH": path}
        _run(str(NODE), str(NPM), "install", *options, *environment.packages, env=env)

    def _python(self, folder: Path, environment: Environment) -> None:
        own = _python(environment.python)
        _run(*uv("venv", "--quiet", "--seed", "--allow-existing", "--python", own, str(folder)))
        python = str(folder / "bin/python")
        if environment.first:
            _run(python, "-m", "pip", "install", "--quiet", *environment.first)
        install = uv("pip", "install", "--quiet", "--python", python)
        override = folder / "overrides.txt"
        override.write_text("\n".join(environment.overrides))
        _run(*install, "--override", str(override), *environment.packages)
        if environment.bare:
            _run(*install, "--no-deps", *environment.bare)
        if environment.finish:
            _run(python, str(ROOT / "tests/interop/models" / environment.finish))


def _python(oldest: tuple[int, int]) -> str:
    """Return a Python that is new enough. Raises Unavailable where this machine has none."""
    if sys.version_info >= oldest:
        return str(Path(sys.executable).resolve())
    names = [f"python3.{minor}" for minor in range(oldest[1], oldest[1] + 4)]
    for name in filter(None, [os.environ.get("INTEROP_PYTHON"), *map(shutil.which, names)]):
        code = f"import sys; sys.exit(sys.version_info < {oldest})"
        if subprocess.run([name, "-c", code], capture_output=True).returncode == 0:
            return name
    raise Unavailable(
        f"it needs Python {oldest[0]}.{oldest[1]}, which this machine does not have;"
        " INTEROP_PYTHON names one"
    )


def uv(*arguments: str) -> list[str]:
    """Return a command of uv: that of the machine, or the one that the Makefile installed."""
    own = ROOT / ".tools/uv/bin/uv"
    return [shutil.which("uv") or str(own), *arguments]


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        ("nice", *command),
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
    )
