"""Serves MiniStack, the AWS emulator, for one machine: on loopback only, fast, quiet."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from inferline.local.emulator.long_poll import KNOWN_VERSION, EndAbandonedPolls, speed_up
from inferline.local.emulator.strict import OverTls, be_strict

#: Polls that still wait when the emulator ends are cut off after this long.
CUT_OFF_SECONDS = 1


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m inferline.local.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (%(default)s)")
    parser.add_argument("--port", type=int, default=4566, help="port to bind (%(default)s)")
    parser.add_argument(
        "--state-dir",
        type=Path,
        help="keep queues and tables here over a clean stop; without it they live in memory",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="check signatures and IAM policies, and run functions with nothing but their bundle",
    )
    options = parser.parse_args(arguments)
    _configure(os.environ, options.host, options.port, options.state_dir)
    # Also when it is unset: a variable left over in the shell must not decide.
    os.environ["AUTH"] = "true" if options.strict else "false"
    serve(options.host, options.port, strict=options.strict)


def _configure(
    environ: MutableMapping[str, str], host: str, port: int, state_dir: Path | None
) -> None:
    """Set MiniStack's environment, which it reads on import."""
    environ["GATEWAY_PORT"] = str(port)
    # Queue URLs carry this name. An address spares every client a look at /etc/hosts and ::1.
    environ["MINISTACK_HOST"] = host
    # Otherwise it listens for MQTT on every address of the machine.
    environ["IOT_MTLS_ENABLED"] = "0"
    environ.setdefault("LOG_LEVEL", "WARNING")
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True)
        environ.update(PERSIST_STATE="1", STATE_DIR=str(state_dir))


def serve(host: str, port: int, *, strict: bool = False) -> None:
    """Serve MiniStack under uvicorn, which costs it half the CPU of the server it comes with."""
    import uvicorn
    from ministack.app import app
    from ministack.core import iam_actions, lambda_runtime
    from ministack.services import sqs
    from ministack.services.cloudformation import provisioners

    version = importlib.metadata.version("ministack")
    if strict and not be_strict(iam_actions, lambda_runtime, provisioners, version):
        sys.exit(f"MiniStack is {version}, not {KNOWN_VERSION}: it can't be made strict.")
    if not speed_up(sqs, version):
        print(
            f"MiniStack is {version}, not {KNOWN_VERSION}: long polls will wake every 100 ms only.",
            file=sys.stderr,
        )
    uvicorn.run(
        EndAbandonedPolls(OverTls(app) if strict else app),
        host=host,
        port=port,
        access_log=False,
        # MiniStack sends its own Date; a second one breaks AWS's JavaScript SDK.
        date_header=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=CUT_OFF_SECONDS,
    )


if __name__ == "__main__":
    main()
