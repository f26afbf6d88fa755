"""The functions' code as one asset, bundled without Docker and known by what it is made of."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import jsii
from aws_cdk import AssetHashType, BundlingOptions, ILocalBundling
from aws_cdk import aws_lambda as lambda_

from infra.bundle import FOLDERS, LOCK, ROOT, Architecture, bundle

#: Of the Python that synthesises, because the bytecode in the bundle is its.
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME: Final = lambda_.Runtime(f"python{PYTHON}", lambda_.RuntimeFamily.PYTHON)


def code(architecture: str) -> lambda_.Code:
    """
    Return the one asset of all functions. Made where a stack is bundled, so not in most tests.
    """
    chosen = cast("Architecture", architecture)
    return lambda_.Code.from_asset(
        str(ROOT),
        asset_hash=_hash(architecture),
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(image=RUNTIME.bundling_image, local=_Bundling(chosen)),
    )


@jsii.implements(ILocalBundling)
class _Bundling:
    """The CDK's way to ask for the bundle."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        """Make the bundle in ``output_dir``. True: it needs no Docker."""
        bundle(Path(output_dir), python=PYTHON, architecture=self._architecture)
        return True


def _hash(architecture: str) -> str:
    """Return the same for the same sources and lock, wherever and whenever it is made."""
    digest = hashlib.sha256(f"{PYTHON} {architecture}".encode())
    for path in _sources():
        digest.update(f"\0{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    yield LOCK
    yield ROOT / "infra" / "bundle.py"
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
