"""
`inferline-provider` without its yielding to faster providers, for comparison.

    python -m bench.dispatch.indifferent [what inferline-provider takes]
"""

from __future__ import annotations

import sys

from inferline_provider.cli import main
from inferline_provider.pull.yielding import YieldPolicies

if __name__ == "__main__":
    YieldPolicies.update = lambda self, faster, task_seconds: None  # type: ignore[method-assign]
    sys.exit(main())
