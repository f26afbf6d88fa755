"""Fetches the GGUF file that an LLM server in a container serves, once, and checks its hash."""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from inferline.local.failures import LocalError, PartMissing
from inferline.local.llm.model import DownloadProgress, Print, sha256_of

TRIES_MAX = 5
PAUSE_SECONDS = 3.0
#: How long a connection may stay silent.
SILENT_SECONDS = 60.0
PIECE_BYTES = 1 << 20


def provide(
    file: Path, url: str, sha256: str, tell: Print, pause_seconds: float = PAUSE_SECONDS
) -> None:
    """
    Make sure that `file` is there and is the right one; without a `sha256` any file is.

    An interrupted download is resumed, also at the next start. Raises PartMissing.
    """
    if file.is_file():
        _check(file, sha256)
        return
    if not url:
        raise PartMissing(f"{file} is not there, and no address is given to fetch it from.")
    part = file.with_name(f"{file.name}.part")
    _fetch(url, part, tell, pause_seconds)
    try:
        _check(part, sha256)
    except PartMissing:
        part.unlink()
        raise
    part.replace(file)


def _check(file: Path, sha256: str) -> None:
    if sha256 and (digest := sha256_of(file)) != sha256.lower():
        raise PartMissing(f"{file.name} has the SHA-256 {digest}, not {sha256.lower()}.")


def _fetch(url: str, part: Path, tell: Print, pause_seconds: float) -> None:
    for left in reversed(range(TRIES_MAX)):
        try:
            _go_on(url, part, tell)
        except (OSError, http.client.HTTPException) as error:
            if not left or not _may_pass(error):
                raise PartMissing(f"{url} could not be fetched: {error}.") from error
            tell(f"broken off ({error}); trying again")
            time.sleep(pause_seconds)
        else:
            return


def _may_pass(error: Exception) -> bool:
    """Return True if another try can help: not if the server refuses, nor if the disk is full."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 416, 425, 429) or error.code >= 500
    return isinstance(
        error, (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException)
    )


def _go_on(url: str, part: Path, tell: Print) -> None:
    """Fetch the missing rest of `part`."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)  # noqa: S310 - whose machine it is has named it
    if have:
        request.add_header("range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=SILENT_SECONDS)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        missing = int(response.headers.get("content-length") or 0)
        with part.open("ab" if have else "wb") as target:
            _copy(response, target, part.stem, have, missing, tell)


def _copy(
    source: http.client.HTTPResponse,
    target: BinaryIO,
    name: str,
    have: int,
    missing: int,
    tell: Print,
) -> None:
    whole, done = have + missing, have
    while piece := source.read(PIECE_BYTES):
        target.write(piece)
        done += len(piece)
        share = f" of {whole / 1e6:.0f} MB, {100 * done // whole} %" if missing else " MB"
        tell(f"fetching {name}: {done / 1e6:.0f}{share}")
    if missing and done < whole:
        raise ConnectionError(f"{whole - done} bytes are missing")


def main(arguments: list[str] | None = None) -> int:
    """Fetch the file; return an exit code of `failures`."""
    parser = argparse.ArgumentParser(prog="python -m inferline.local.weights", description=__doc__)
    parser.add_argument("--file", type=Path, required=True, help="where it is to be")
    parser.add_argument("--url", default="", help="where it is fetched from, if it is not there")
    parser.add_argument("--sha256", default="", help="what it has to be; empty: anything")
    options = parser.parse_args(arguments)
    # The first process of a container has no default for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = DownloadProgress()
    try:
        provide(options.file, options.url, options.sha256, progress)
    except LocalError as failure:
        progress.end()
        print(failure, file=sys.stderr)
        return failure.exit_code
    progress.end()
    print(f"{options.file} is there.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
