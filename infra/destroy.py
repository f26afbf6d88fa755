"""Removes a stack and what it and its providers have made since, and nothing of anyone else's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from botocore.exceptions import ClientError, WaiterError

from infra.account import AwsAccount
from infra.node import ROOT
from infra.options import Options

#: The outputs that name a bucket; CloudFormation deletes none that holds something.
BUCKETS: Final = ("BodiesBucket", "FilesBucket")
ASK: Final = (
    "This deletes the stack {stack} in account {id}, {region}: its keys, its tasks, its "
    "files and its logs.\n"
    "Type {stack} to go on: "
)
LEFT: Final = """
The stack {stack} is gone. What AWS keeps of it for a while, at no cost: the KMS key, which waits a
week to be deleted, and past metrics and traces. The CDK's own stack, CDKToolkit, stays as well: it
is there for every CDK app of the account.
"""


def main(arguments: Sequence[str]) -> int:
    """Ask, then remove."""
    parser = argparse.ArgumentParser(prog="make destroy", description=__doc__)
    parser.add_argument("--stack", default=_declared(), help="default: as in cdk.json")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    account = AwsAccount.from_environment()
    outputs = account.stack(options.stack)
    if outputs is None:
        print(f"There is no stack {options.stack} in account {account.id}, {account.region}.")
        return 0
    if account.protected(options.stack):
        print(f"{options.stack} is protected: set `protect` to false and deploy first.")
        return 1
    if not options.yes and not _agreed(options.stack, account):
        print("Nothing was done.")
        return 1
    buckets = [outputs[name] for name in BUCKETS if name in outputs]
    return _remove(account, options.stack, buckets)


def _declared() -> str:
    return Options.from_context(json.loads((ROOT / "cdk.json").read_text())["context"]).stack


def _agreed(stack: str, account: AwsAccount) -> bool:
    question = ASK.format(stack=stack, id=account.id, region=account.region)
    return input(question).strip() == stack


def _remove(account: AwsAccount, stack: str, buckets: Sequence[str]) -> int:
    """
    Return what the stack made goes with it; what it held or an enrolment made has to be named.
    """
    queues = account.queues(stack)
    try:
        for bucket in buckets:
            account.empty(bucket)
        account.delete_stack(stack)
    except (ClientError, WaiterError) as error:
        print(f"The stack could not be deleted: {error}", file=sys.stderr)
        return 1
    for url in queues:
        account.delete_queue(url)
    print(LEFT.format(stack=stack))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
