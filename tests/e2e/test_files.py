"""Large files through a real gateway and an emulator's S3, which hold two segments at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.forms import FORM, field, form, part
from tests.support.line import Line, empty_line

pytestmark = pytest.mark.serial

MIB = 2**20
FILE_BYTES = 200 * 1000 * 1000
#: Beside what a gateway needs that has nothing to do.
MORE_MIB_MAX = 32


class Peak:
    """Peak of a process's resident memory, above what it had at first."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._kib("VmRSS")

    def more_mib(self) -> float:
        return (self._kib("VmHWM") - self._before) / 1024

    def _kib(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])


def lines() -> Iterator[bytes]:
    """Yield pieces of a file, each other than the one before."""
    piece = bytes(range(256)) * 400
    for number in range(FILE_BYTES // len(piece)):
        yield number.to_bytes(8) + piece[8:]


def chunked(content: Iterator[bytes]) -> Iterator[bytes]:
    before, after = form(field("purpose", "batch"), part('form-data; name="file"', b"|")).split(
        b"|"
    )
    yield before
    yield from content
    yield after


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with empty_line() as parts:
        yield parts


def test_a_file_of_200_mb_needs_no_more_memory_than_its_segments(
    line: Line, record_property: Any
) -> None:
    gateway = line.start_gateway()
    with httpx.Client(base_url=f"{line.url}/v1", timeout=300) as client:

        def upload(content: Iterator[bytes]) -> str:
            response = client.post(
                "/files", content=chunked(content), headers={"content-type": FORM}
            )
            assert response.status_code == 200, response.text
            file_id: str = response.json()["id"]
            return file_id

        def checksum(file_id: str) -> str:
            digest = hashlib.sha256()
            with client.stream("GET", f"/files/{file_id}/content") as response:
                for piece in response.iter_bytes():
                    digest.update(piece)
            return digest.hexdigest()

        checksum(upload(iter([b"warm"])))

        peak = Peak(gateway.process.pid)
        file_id = upload(lines())
        uploading = peak.more_mib()
        peak = Peak(gateway.process.pid)
        received = checksum(file_id)
        downloading = peak.more_mib()

    print(f"uploading +{uploading:.1f} MiB, downloading +{downloading:.1f} MiB")
    record_property("mib", {"uploading": uploading, "downloading": downloading})
    whole = hashlib.sha256()
    for piece in lines():
        whole.update(piece)
    assert received == whole.hexdigest()
    assert max(uploading, downloading) <= MORE_MIB_MAX
