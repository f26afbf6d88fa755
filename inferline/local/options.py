"""What the user of the one-machine mode may choose, on the command line or in the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inferline.local.failures import WrongOption

PREFIX = "INFERLINE_LOCAL_"


#: Each option's help, and what stands for its value there.
_HELP: dict[str, tuple[str, str | None]] = {
    "backend": ("use this OpenAI-compatible server instead of the built-in LLM", "URL"),
    "no_llm": ("start neither LLM nor provider", None),
    "model": ("serve this GGUF file instead of fetching a small model", "FILE"),
    "slots": ("answers at a time (4 with the built-in LLM)", "N"),
    "context": (
        "tokens of prompt and answer together, for each slot of the built-in LLM (the model's own, "
        "8192 for the small one, as far as a quarter of the memory goes)",
        "N",
    ),
    "threads": ("CPU threads of the built-in LLM (half of the CPUs, 8 at most)", "N"),
    "host": ("where the gateway listens (127.0.0.1, this machine only)", "ADDRESS"),
    "port": ("the gateway's port (8000)", "N"),
    "llm_port": ("the built-in LLM's port (8001)", "N"),
    "emulator_port": ("the AWS emulator's port (4566)", "N"),
}

_EPILOG = f"""\
Each option may also be set as {PREFIX}<NAME>, as in {PREFIX}PORT=9000.

exit codes:
  0    ended by Ctrl-C or SIGTERM
  2    an option is wrong
  3    a part is missing, or a port is taken
  4    a part did not come up, or died
  130  killed by a second Ctrl-C
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices, checked."""

    #: Where the gateway listens. All other parts stay on loopback.
    host: str = "127.0.0.1"
    port: int = 8000
    llm_port: int = 8001
    emulator_port: int = 4566
    #: An OpenAI-compatible server to use instead of the built-in one.
    backend: str | None = None
    no_llm: bool = False
    #: A GGUF file to serve instead of the small model that is fetched.
    model: Path | None = None
    #: Answers at a time; None leaves it to the provider, or is 4 for the built-in LLM.
    slots: int | None = None
    #: Tokens of each slot of the built-in LLM; None: the model's own, as far as memory allows.
    context: int | None = None
    #: CPU threads of the built-in LLM.
    threads: int = 1

    @property
    def gateway_url(self) -> str:
        """The gateway's address as a client on this machine writes it."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
        host = everywhere.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def emulator_url(self) -> str:
        """AWS, as far as the parts are concerned."""
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def backend_url(self) -> str:
        """The LLM server that the provider asks."""
        return self.backend or f"http://127.0.0.1:{self.llm_port}"

    @property
    def built_in(self) -> bool:
        """Whether InferLine serves a model itself."""
        return self.backend is None and not self.no_llm


def default_threads(cpus: int) -> int:
    """
    Leave CPUs to the other parts.

    Threads of llama.cpp wait for each other by spinning: one that shares its CPU with a busy
    gateway slows down all of them, by far more than its share.
    """
    return max(1, min(8, cpus // 2))


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Describe the options; the default of each is the variable INFERLINE_LOCAL_<NAME>."""
    for name, (what, metavar) in _HELP.items():
        flag, default = _spelled(name), environ.get(PREFIX + name.upper()) or None
        if metavar is None:
            parser.add_argument(
                flag, action="store_const", const="true", default=default, help=what
            )
        else:
            parser.add_argument(flag, metavar=metavar, default=default, help=what)
    parser.epilog = _EPILOG


def read(args: argparse.Namespace) -> Options:
    """The options that `add_arguments` described, checked. Raises WrongOption for all at once."""
    found: dict[str, Any] = {"threads": default_threads(os.cpu_count() or 1)}
    problems: list[str] = []
    for name, parse in _PARSERS.items():
        text = getattr(args, name)
        if text is None:
            continue
        try:
            found[name] = parse(text)
        except ValueError as wrong:
            problems.append(f"{_spelled(name)} (or {PREFIX}{name.upper()}) {wrong}, got {text!r}")
    options = Options(**found)
    problems += _contradictions(options)
    if problems:
        raise WrongOption("; ".join(problems) + ".")
    return options


def _contradictions(options: Options) -> list[str]:
    problems = []
    ports = [options.port, options.emulator_port] + [options.llm_port] * options.built_in
    if len(set(ports)) < len(ports):
        problems.append("--port, --llm-port and --emulator-port must differ")
    if options.backend and options.no_llm:
        problems.append("--backend and --no-llm exclude each other")
    problems += [
        f"--{name} is of no use with --backend or --no-llm"
        for name in ("model", "context")
        if getattr(options, name) and not options.built_in
    ]
    return problems


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return int(text)

    return parse


def _yes_or_no(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise ValueError("must be true or false")
    return known[text.lower()]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as http://127.0.0.1:11434/v1")
    return text.rstrip("/")


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError("must be a file")
    return path.resolve()


_PARSERS: dict[str, Callable[[str], Any]] = {
    "host": str,
    "port": _number(1, 65535),
    "llm_port": _number(1, 65535),
    "emulator_port": _number(1, 65535),
    "backend": _url,
    "no_llm": _yes_or_no,
    "model": _file,
    "slots": _number(1, 1024),
    "context": _number(256, 1_048_576),
    "threads": _number(1, 1024),
}
