"""``python -m inferline_provider`` is ``inferline-provider``."""

from __future__ import annotations

from inferline_provider.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
