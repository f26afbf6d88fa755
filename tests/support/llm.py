"""A real LLM server for a line: llama.cpp with a small model."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from inferline.local.failures import PartMissing
from inferline.local.llm import model
from tests.support.emulators import free_port
from tests.support.line import Line, get_json, until
from tests.support.once import locked


def start_line(line: Line, *, slots: int, context: int, **environ: str) -> None:
    """Start the server and the gateway, with ``environ``; ``context`` is tokens for each slot."""
    port = free_port()
    command = ["--model", model_path(), "--alias", model.ALIAS, "--port", str(port)]
    command += ["--slots", str(slots), "--threads", "1", "--context", str(context)]
    llm = line.start("llm", "inferline.local.llm", *command)
    line.backend_url = f"http://127.0.0.1:{port}"
    line.start_gateway(**environ)
    health = f"{line.backend_url}/health"
    until(lambda: llm.process.poll() is not None or get_json(health), "llama.cpp is up")
    assert llm.process.poll() is None, llm.log


def model_path() -> str:
    """
    Return the model's file, fetched at the first time; CI has to have it, a laptop may be offline.
    """
    try:
        with locked(Path(tempfile.gettempdir()) / f"inferline-model-{os.getuid()}.lock"):
            return str(model.find(os.environ) or model.fetch(os.environ, lambda _: None))
    except PartMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
