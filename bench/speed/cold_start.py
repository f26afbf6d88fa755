"""What a start of each function costs: time to its first answer, time of its imports, memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness.loader import Loader
from bench.harness.processes import AWS_ENVIRONMENT, BenchError, free_port
from bench.harness.stack import emulator
from bench.harness.stats import spread
from bench.report import Table, progress
from inferline.accounts.keys import new_key
from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.provision import provision
from inferline.settings import Settings
from infra.bundle import Architecture, BundleError, bundle
from tests.support import runtime_api

EVENTS = Path(__file__).parents[2] / "tests" / "functions" / "events"
HOST: Architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
#: The function and the event that it answers; the last has the adapter's way of starting.
FUNCTIONS = {
    "inference": "rest",
    "control": "rest",
    "authorizer": "authorizer",
    "dead_letters": "sqs",
    "sweep": "scheduled",
}
STREAMED = "inference, streamed"


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Start each function several times from a bundle made for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        made = await asyncio.to_thread(_make, code)
        async with emulator() as (url, _):
            key = await _prepare(url)
            times = await asyncio.to_thread(_measure, code, url, key, 3 if quick else 9)
    return {"bundle": made, "functions": times}


def _make(code: Path) -> dict[str, float]:
    begun = time.monotonic()
    try:
        bundle(code, python=f"{sys.version_info[0]}.{sys.version_info[1]}", architecture=HOST)
    except BundleError as error:
        raise BenchError(str(error)) from error
    seconds = time.monotonic() - begun
    size = sum(path.stat().st_size for path in code.rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes": size}


async def _prepare(url: str) -> str:
    settings = Settings(endpoint_url=url)
    async with AwsClient(settings.region, url, StaticCredentials("test", "test")) as client:
        await provision(client, settings)
        key, text = new_key("client", "bench", tenant="bench", now_ms=client.now_ms())
        await DynamoKeys(client, settings.registry_table).put_key(key)
        return text


def _measure(code: Path, url: str, key: str, times: int) -> dict[str, dict[str, list[float]]]:
    environ = {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": url, "INFERLINE_ACCESS": "keys"}
    by_function: dict[str, dict[str, list[float]]] = {}
    for name, event in FUNCTIONS.items():
        progress(name)
        starts = [_start(name, _event(event, key), code, environ) for _ in range(times)]
        imports = [_import(f"functions.{name}", code) for _ in range(times)]
        by_function[name] = _columns(starts, imports)
    starts = [_start_streamed(code, environ) for _ in range(times)]
    imports = [_import("functions._app, uvicorn", code) for _ in range(times)]
    by_function[STREAMED] = _columns(starts, imports)
    return by_function


def _columns(starts: list[tuple[float, float]], imports: list[float]) -> dict[str, list[float]]:
    return {
        "first_answer_ms": [ms for ms, _ in starts],
        "import_ms": imports,
        "peak_mib": [mib for _, mib in starts],
    }


def _event(name: str, key: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    if name == "authorizer":
        event["multiValueHeaders"] = {"Authorization": [f"Bearer {key}"]}
    if name == "rest":
        event |= {"path": "/v1/models", "httpMethod": "GET"}
    return event


def _start(
    name: str, event: dict[str, Any], code: Path, environ: dict[str, str]
) -> tuple[float, float]:
    """
    Return the milliseconds from the process's start to its first answer, and its peak memory in
    MiB.
    """
    begun = time.perf_counter()
    with runtime_api.running(f"functions.{name}.handler", environ, code) as function:
        result = function.invoke(event)
        ms = (time.perf_counter() - begun) * 1000
        if result.error:
            raise BenchError(f"{name}: {result.error}")
        return ms, _peak_mib(function.process.pid)


def _start_streamed(code: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Return the same of run.sh, to its first answer over HTTP, without the adapter in front."""
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(code / "functions" / "run.sh")],
        env=runtime_api.environment("inference", code)
        | environ
        | {"PATH": path, "AWS_LWA_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _is_up(port):
            time.sleep(0.005)
        return (time.perf_counter() - begun) * 1000, _peak_mib(process.pid)
    finally:
        process.kill()
        process.wait()


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v1/health")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _import(modules: str, code: Path) -> float:
    """
    Return the milliseconds that the import takes on the bundle alone, in a process of its own.
    """
    statement = (
        f"import sys, time; sys.path.insert(0, {str(code)!r}); t = time.perf_counter(); "
        f"import {modules}; print((time.perf_counter() - t) * 1000)"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", statement]
    environ = {"AWS_REGION": AWS_ENVIRONMENT["AWS_REGION"]}
    return float(subprocess.run(command, env=environ, check=True, capture_output=True).stdout)


def tell(raw: dict[str, Any]) -> list[Table]:
    rows = [
        [
            name,
            spread(columns["first_answer_ms"]),
            spread(columns["import_ms"]),
            spread(columns["peak_mib"]),
            str(len(columns["peak_mib"])),
        ]
        for name, columns in raw["functions"].items()
    ]
    made = raw["bundle"]
    return [
        Table(
            "Cold start of each function, from the bundle: medians, least and greatest",
            ["function", "first answer ms", "imports ms", "peak MiB", "starts"],
            rows,
            "The first answer is counted from the process's start and includes two to four calls "
            f"to the emulator. The bundle: {made['bytes'] / 1e6:.1f} MB unpacked, made in "
            f"{made['seconds']:.1f} s.",
        )
    ]
