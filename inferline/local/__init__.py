"""The whole of InferLine on one machine, so that anyone can try it without a cloud or a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

# Each part is started as a module of this package, and should not load the others for it.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `inferline local`."""
    from inferline.local import options

    options.add_arguments(parser)


def run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run everything on this machine until Ctrl-C; return one of the exit codes of `failures`."""
    from inferline.local import command

    return command.run(args, environ)
