"""`inferline local`: reads the options, checks what is there, and hands over to the supervisor."""

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


def run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run everything on this machine until Ctrl-C; gives one of the exit codes of `failures`."""
    try:
        options = read(args, environ)
        for warning in renamed(LocalOptions, environ):
            _complain(warning)
        plan.check(options, environ)
        return asyncio.run(_supervise(options, environ))
    except SettingsError as error:
        _complain(str(error))
        return USAGE
    except LocalError as failure:
        _complain(str(failure))
        return failure.exit_code


async def _supervise(options: LocalOptions, environ: Mapping[str, str]) -> int:
    logs = plan.log_dir(options, environ)
    _tell(f"InferLine on this machine; logs in {logs}")
    supervisor = Supervisor(
        plan.parts(options, environ),
        logs=logs,
        tell=_tell,
        complain=_complain,
        once_ready=Welcome(options, logs, _tell),
    )
    return await supervisor.run()


def _tell(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever read along has gone; the parts go on. Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    print(f"inferline local: {text}", file=sys.stderr, flush=True)
