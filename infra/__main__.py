"""The CDK app; `cdk.json` starts it."""

from __future__ import annotations

import sys

import infra.stack as stacks
from inferline.options import SettingsError


def main() -> int:
    """Synthesise the stack that the context asks for."""
    try:
        stacks.app().synth()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
