"""
Deploys the stack to the account that the environment names, and says what comes next.

What follows on the command line goes to `cdk deploy`, such as ``-c edge=buffered``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra import node
from infra.account import AwsAccount

NEXT: Final = """
InferLine answers at {url}
Its page: {page}

A key for a client, and a token for a provider; each is shown once:

  export INFERLINE_STACK={stack} AWS_REGION={region}
  .venv/bin/inferline keys create --name my-app
  .venv/bin/inferline providers token --models '*'

A GPU host that serves (docs/running-a-provider.md):

  export INFERLINE_BASE_URL={url}
  export INFERLINE_PROVIDER_TOKEN=ilp_... OPENAI_BASE_URL=http://127.0.0.1:8000/v1
  inferline-provider
"""


def main(arguments: Sequence[str]) -> int:
    """Bootstrap where nobody has, deploy, and say what comes next."""
    account = AwsAccount.from_environment()
    if not _agreed(account):
        print("Nothing was done.")
        return 1
    if not account.bootstrapped() and node.run("cdk", "bootstrap", account.environment):
        return 1
    with tempfile.TemporaryDirectory() as folder:
        outputs_file = Path(folder) / "outputs.json"
        words = ("--require-approval", "never", "--outputs-file", str(outputs_file), *arguments)
        if status := node.run("cdk", "deploy", *words):
            return status
        [(stack, outputs)] = json.loads(outputs_file.read_text()).items()
    url, page = outputs["BaseUrl"], outputs.get("PageUrl", "none, as cdk.json has it")
    print(NEXT.format(url=url, page=page, stack=stack, region=account.region))
    return 0


def _agreed(account: AwsAccount) -> bool:
    """Return whether that is the account that was meant; a script has said so by running this."""
    print(f"Deploying to account {account.id}, {account.region}.")
    return not sys.stdin.isatty() or input("Is that the one? [y/N] ").strip().lower() == "y"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
