"""The CDK app; `cdk.json` starts it."""

from __future__ import annotations

import sys

import infra.stack as stacks
from infra.switches import SwitchError


def main() -> int:
    """Synthesise the stack that the context asks for."""
    try:
        stacks.app().synth()
    except SwitchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
