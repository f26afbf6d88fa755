"""`python -m inferline` is the `inferline` command."""

from __future__ import annotations

import sys

from inferline.cli import main

if __name__ == "__main__":
    sys.exit(main())
