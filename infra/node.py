"""
Node and what runs on it: the CDK's command line and npm, from the environment and nowhere else.

    python -m infra.node cdk deploy
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infra import NODE

ROOT: Final = Path(__file__).resolve().parent.parent
#: What `python -m infra.node` knows, with what each is given first.
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "cdk": (str(ROOT / "infra/node_modules/aws-cdk/bin/cdk"), "--no-notices"),
    "npm": (str(NODE.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"),),
}


def command(program: str, *arguments: str) -> list[str]:
    """Return the command that runs ``program``."""
    return [str(NODE), *PROGRAMS[program], *arguments]


def environ(own: Mapping[str, str]) -> dict[str, str]:
    """``own`` with this Node first, and without word to AWS of who uses the CDK for what."""
    path = os.pathsep.join((str(NODE.parent), own.get("PATH", os.defpath)))
    return {**own, "PATH": path, "CDK_DISABLE_CLI_TELEMETRY": "true"}


def run(program: str, *arguments: str) -> int:
    """Run ``program`` in the project's folder; gives its exit status."""
    done = subprocess.run(  # noqa: S603  # what it runs is ours
        command(program, *arguments), cwd=ROOT, env=environ(os.environ), check=False
    )
    return done.returncode


def main(words: Sequence[str]) -> int:
    """Run what the command line names."""
    if not words or words[0] not in PROGRAMS:
        print(f"usage: python -m infra.node {'|'.join(PROGRAMS)} …", file=sys.stderr)
        return 2
    return run(*words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
