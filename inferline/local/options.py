"""The options of `inferline local`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inferline import options
from inferline.options import declare
from inferline.parsing import parse_int, parse_text, parse_url

PREFIX = "INFERLINE_LOCAL_"

_EPILOG = """\
exit codes:
  0    ended by Ctrl-C or SIGTERM
  2    an option is wrong
  3    a part is missing, or a port is taken
  4    a part did not come up, or died
  130  killed by a second Ctrl-C
"""


def _parse_file(value: object) -> Path:
    path = Path(parse_text(value)).expanduser()
    if not path.is_file():
        raise ValueError("must be a file")
    return path.resolve()


_port = partial(declare, between=(1, 65535))


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """The options of one machine; all parts but the gateway stay on the loopback address."""

    backend: str | None = declare(
        None,
        "Use this OpenAI-compatible server instead of the built-in LLM.",
        variable="INFERLINE_LOCAL_BACKEND",
        flag="--backend",
        metavar="URL",
        parse=parse_url,
    )
    no_llm: bool = declare(
        False,
        "Start neither an LLM nor a provider.",
        variable="INFERLINE_LOCAL_NO_LLM",
        flag="--no-llm",
        old_values={"yes": "true", "no": "false"},
    )
    model: Path | None = declare(
        None,
        "Serve this GGUF file instead of downloading a small model.",
        variable="INFERLINE_LOCAL_MODEL",
        flag="--model",
        metavar="FILE",
        parse=_parse_file,
    )
    slots: int | None = declare(
        None,
        "How many tasks run at once.",
        variable="INFERLINE_LOCAL_SLOTS",
        flag="--slots",
        parse=parse_int,
        between=(1, 1024),
        default_text="4 with the built-in LLM",
    )
    context: int | None = declare(
        None,
        "Tokens of prompt and answer together, for each slot of the built-in LLM.",
        variable="INFERLINE_LOCAL_CONTEXT",
        flag="--context",
        parse=parse_int,
        between=(256, 1_048_576),
        default_text="the model's own (8192 for the small one), within a quarter of the memory",
    )
    threads: int = declare(
        1,
        "CPU threads of the built-in LLM.",
        variable="INFERLINE_LOCAL_THREADS",
        flag="--threads",
        between=(1, 1024),
        default_text="half of the CPUs, at most 8",
    )
    host: str = declare(
        "127.0.0.1",
        "Address where the gateway listens; other machines cannot reach the default.",
        variable="INFERLINE_LOCAL_HOST",
        flag="--host",
        metavar="ADDRESS",
    )
    port: int = _port(8000, "Port of the gateway.", variable="INFERLINE_LOCAL_PORT", flag="--port")
    llm_port: int = _port(
        8001, "Port of the built-in LLM.", variable="INFERLINE_LOCAL_LLM_PORT", flag="--llm-port"
    )
    emulator_port: int = _port(
        4566,
        "Port of the AWS emulator.",
        variable="INFERLINE_LOCAL_EMULATOR_PORT",
        flag="--emulator-port",
    )

    def problems(self) -> list[str]:
        """Return which options contradict each other."""
        problems = []
        ports = [self.port, self.emulator_port] + [self.llm_port] * self.built_in
        if len(set(ports)) < len(ports):
            problems.append("--port, --llm-port and --emulator-port must differ")
        if self.backend and self.no_llm:
            problems.append("--backend and --no-llm exclude each other")
        problems += [
            f"--{name} has no effect with --backend or --no-llm"
            for name in ("model", "context")
            if getattr(self, name) and not self.built_in
        ]
        return problems

    @property
    def gateway_url(self) -> str:
        """Return the gateway's address as a client on this machine writes it."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
        host = everywhere.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def emulator_url(self) -> str:
        """Return the address that stands for AWS."""
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def backend_url(self) -> str:
        """Return the address of the LLM server."""
        return self.backend or f"http://127.0.0.1:{self.llm_port}"

    @property
    def built_in(self) -> bool:
        """Return True if InferLine serves a model itself."""
        return self.backend is None and not self.no_llm


def default_threads(cpus: int) -> int:
    """
    Leave CPUs to the other parts.

    Threads of llama.cpp wait for each other by spinning: one that shares its CPU with a busy
    gateway slows down all of them, by far more than its share.
    """
    return max(1, min(8, cpus // 2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `inferline local`."""
    options.add_arguments(parser, LocalOptions)
    parser.epilog = _EPILOG


def read(arguments: argparse.Namespace, environ: Mapping[str, str]) -> LocalOptions:
    """Return the options. Raises SettingsError with all problems."""
    threads = default_threads(os.cpu_count() or 1)
    return options.read(LocalOptions, environ, arguments, threads=threads)
