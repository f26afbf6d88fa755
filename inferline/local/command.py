"""The command `inferline local`: reads and checks the options and runs the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping

from inferline.local import plan
from inferline.local.failures import USAGE, LocalError
from inferline.local.options import LocalOptions, read
from inferline.local.processes.supervisor import Supervisor
from inferline.local.welcome import Welcome
from inferline.options import SettingsError, renamed
from inferline.terminal import printable_lines


def run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run everything on this machine until Ctrl-C; return one of the exit codes of `failures`."""
    try:
        options = read(args, environ)
        for warning in renamed(LocalOptions, environ):
            _print_error(warning)
        plan.check(options, environ)
        return asyncio.run(_supervise(options, environ))
    except SettingsError as error:
        _print_error(str(error))
        return USAGE
    except LocalError as failure:
        _print_error(str(failure))
        return failure.exit_code


async def _supervise(options: LocalOptions, environ: Mapping[str, str]) -> int:
    logs = plan.log_dir(options, environ)
    _print(f"InferLine on this machine; logs in {logs}")
    supervisor = Supervisor(
        plan.parts(options, environ),
        logs=logs,
        tell=_print,
        complain=_print_error,
        once_ready=Welcome(options, logs, _print),
    )
    return await supervisor.run()


def _print(text: str) -> None:
    try:
        print(printable_lines(text), flush=True)
    except BrokenPipeError:
        # The reader of the pipe has gone; the parts go on. Python's flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(text: str) -> None:
    print(f"inferline local: {printable_lines(text)}", file=sys.stderr, flush=True)
