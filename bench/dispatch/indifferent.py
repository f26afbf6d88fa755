"""
A provider that takes no notice of faster ones, to be compared with: `inferline-provider` but that.

    python -m bench.dispatch.indifferent [what inferline-provider takes]
"""

from __future__ import annotations

import sys

from inferline_provider.cli import main
from inferline_provider.pull.yielding import YieldPolicies

if __name__ == "__main__":
    YieldPolicies.know = lambda self, faster, task_seconds: None  # type: ignore[method-assign]
    sys.exit(main())
