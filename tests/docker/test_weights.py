"""Getting an LLM server's weights: what is fetched, gone on with, refused and left behind."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from inferline.local.failures import PartMissing
from inferline.local.weights import provide

WEIGHTS = b"GGUF and so on" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


class Shelf(http.server.BaseHTTPRequestHandler):
    """Gives the weights, from where one wants; what `cuts` holds, it gives at the most."""

    asked: ClassVar[list[str | None]] = []
    cuts: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        wanted = self.headers["range"]
        type(self).asked.append(wanted)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.path != "/weights.gguf":
            self.send_error(404)
            return
        if begin >= len(WEIGHTS):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("content-length", str(len(WEIGHTS) - begin))
        self.end_headers()
        end = begin + self.cuts.pop(0) if self.cuts else None
        self.wfile.write(WEIGHTS[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Shelf.asked, Shelf.cuts = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/weights.gguf"
        server.shutdown()
        thread.join()


def get(file: Path, url: str, sha256: str = SHA256) -> list[str]:
    printed: list[str] = []
    provide(file, url, sha256, printed.append, pause_seconds=0)
    return printed


def test_they_are_fetched_with_progress_and_checked(tmp_path: Path, url: str) -> None:
    printed = get(tmp_path / "weights.gguf", url)

    assert WEIGHTS == (tmp_path / "weights.gguf").read_bytes()
    assert printed[-1].endswith("100 %")
    assert ["weights.gguf"] == [path.name for path in tmp_path.iterdir()]


def test_what_is_here_is_not_fetched(tmp_path: Path, url: str) -> None:
    (tmp_path / "weights.gguf").write_bytes(WEIGHTS)

    get(tmp_path / "weights.gguf", url)

    assert [] == Shelf.asked


def test_a_fetch_that_breaks_off_goes_on_where_it_ended(tmp_path: Path, url: str) -> None:
    Shelf.cuts = [5000]

    get(tmp_path / "weights.gguf", url)

    assert [None, "bytes=5000-"] == Shelf.asked
    assert WEIGHTS == (tmp_path / "weights.gguf").read_bytes()


def test_it_goes_on_after_a_restart_too(tmp_path: Path, url: str) -> None:
    (tmp_path / "weights.gguf.part").write_bytes(WEIGHTS[:7000])

    get(tmp_path / "weights.gguf", url)

    assert ["bytes=7000-"] == Shelf.asked
    assert ["weights.gguf"] == [path.name for path in tmp_path.iterdir()]


def test_a_part_that_is_longer_than_the_whole_is_dropped(tmp_path: Path, url: str) -> None:
    (tmp_path / "weights.gguf.part").write_bytes(WEIGHTS + b"more")

    get(tmp_path / "weights.gguf", url)

    assert WEIGHTS == (tmp_path / "weights.gguf").read_bytes()


def test_other_weights_are_refused_and_not_kept(tmp_path: Path, url: str) -> None:
    with pytest.raises(PartMissing, match=f"has the SHA-256 {SHA256}, not 00"):
        get(tmp_path / "weights.gguf", url, "00")

    assert [] == list(tmp_path.iterdir())


def test_other_weights_that_are_here_are_refused_and_left_alone(tmp_path: Path, url: str) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"mine")

    with pytest.raises(PartMissing, match="has the SHA-256"):
        get(tmp_path / "weights.gguf", url)

    assert b"mine" == (tmp_path / "weights.gguf").read_bytes()


def test_without_a_hash_any_weights_will_do(tmp_path: Path, url: str) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"mine")

    get(tmp_path / "weights.gguf", url, "")

    assert [] == Shelf.asked


def test_what_the_server_does_not_have_is_not_asked_for_again(tmp_path: Path, url: str) -> None:
    with pytest.raises(PartMissing, match="404"):
        get(tmp_path / "other.gguf", url + "x")

    assert 1 == len(Shelf.asked)


def test_without_an_address_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match="no address is given"):
        get(tmp_path / "weights.gguf", "")
