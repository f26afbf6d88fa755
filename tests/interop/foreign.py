"""A plugin of pytest: the contract tests meet the AWS that INTEROP_AWS names, and no other."""

from __future__ import annotations

import os

from tests.support import emulators

emulators.COMMANDS.clear()
emulators.COMMANDS["foreign"] = lambda port: [
    *("-m", "tests.interop.switchboard", "--port", str(port)),
    *("--to", f"other={os.environ['INTEROP_AWS']}"),
]
