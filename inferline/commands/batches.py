"""The commands `inferline batches …`: upload lines, run them as a batch, fetch the results."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from inferline.commands import gateway
from inferline.commands.printing import FAILED, OK, print_error
from inferline.commands.progress import Progress, bar, duration
from inferline.files.ids import is_id
from inferline.terminal import Cells, columns, printable, table

BATCHES: Final = "/v1/batches"
FILES: Final = "/v1/files"
UPLOADS: Final = "/v1/uploads"
#: A part of an upload: small enough for a gateway behind AWS Lambda.
PART_BYTES: Final = 3 * 1024 * 1024
#: Between two reads of a batch that is watched, seconds.
WATCH_SECONDS: Final = 2.0
#: How long a gateway may be away while a batch is watched, seconds: it may be restarted.
AWAY_SECONDS_MAX: Final = 120.0
#: The most batches that a list shows, and OpenAI's limit on one page.
LIST_MAX: Final = 100
_READ_BYTES: Final = 1024 * 1024
_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})

Options = argparse.Namespace
_Verb = Callable[["GatewayApi", Options], int]


class GatewayApi:
    """The gateway, as these commands call it."""

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self._base_url = options.base_url
        self._environ = gateway.with_key(options, environ)

    def get(self, path: str) -> Any:
        """GET JSON. Raises NoAnswerError."""
        return gateway.fetch(self._base_url, path, self._environ)

    def post(
        self, path: str, document: Mapping[str, Any] | None = None, part: bytes | None = None
    ) -> Any:
        """POST JSON, or a part of an upload. Raises NoAnswerError."""
        if part is None:
            body, content_type = json.dumps(document or {}).encode(), "application/json"
        else:
            body, content_type = _form(part)
        return gateway.post(self._base_url, path, self._environ, body, content_type)

    def content(self, file_id: str) -> Iterator[bytes]:
        """Yield a file's bytes. Raises NoAnswerError."""
        path = f"{FILES}/{quote(file_id, safe='')}/content"
        with gateway.opened(self._base_url, path, self._environ) as response:
            while data := response.read(_READ_BYTES):
                yield data


def add_batches(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the verbs of ``inferline batches``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    listing = _verb(verbs, environ, "list", "list batches, the newest first", _list)
    listing.add_argument(
        "--limit", type=int, default=20, metavar="N", help="how many, 1 to 100 (%(default)s)"
    )
    for name, help_text, does in (
        ("show", "show a batch with its counts, times and errors", _show),
        (
            "watch",
            "show progress until the batch has ended; exit code 0 if it completed",
            _watch,
        ),
        ("cancel", "cancel a batch; what is done is kept", _cancel),
    ):
        _verb(verbs, environ, name, help_text, does).add_argument("id", metavar="BATCH_ID")
    upload = _verb(verbs, environ, "upload", "upload a file of lines and print its id", _upload)
    upload.add_argument("file", metavar="FILE", type=Path, help="JSON lines")
    create = _verb(
        verbs, environ, "create", "start a batch of a local or an uploaded file", _create
    )
    create.add_argument(
        "file", metavar="FILE", help="a local file, which is uploaded, or an uploaded file's id"
    )
    create.add_argument(
        "--endpoint",
        default="/v1/chat/completions",
        metavar="PATH",
        help="the `url` of its lines (%(default)s)",
    )
    create.add_argument(
        "--window", default="24h", metavar="TIME", help="time it may take, 1h to 7d (%(default)s)"
    )
    create.add_argument("--watch", action="store_true", help="watch it until it has ended")
    download = _verb(verbs, environ, "download", "write a batch's results to a file", _download)
    download.add_argument("id", metavar="ID", help="a batch's id, or a file's")
    download.add_argument("--errors", action="store_true", help="the lines that failed instead")
    download.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to (default: standard output)"
    )


def _verb(
    verbs: Any, environ: Mapping[str, str], name: str, help_text: str, does: _Verb
) -> argparse.ArgumentParser:
    """Declare a verb that calls the gateway."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text, description=help_text)
    gateway.add_arguments(parser, environ)

    def run(options: Options) -> int:
        try:
            return does(GatewayApi(options, environ), options)
        except BrokenPipeError:
            raise
        except (gateway.NoAnswerError, OSError) as error:
            print_error(error)
            return FAILED

    parser.set_defaults(run=run)
    return parser


def _list(api: GatewayApi, options: Options) -> int:
    limit = max(1, min(LIST_MAX, options.limit))
    batches = api.get(f"{BATCHES}?{urlencode({'limit': limit})}")["data"]
    if options.json:
        print(json.dumps(batches, indent=2))
        return OK
    head: Cells = ("id", "status", "model", "lines", "done", "failed", "created", "ends by")
    rows = [head, *map(_row, batches)]
    print(table(rows, columns(sys.stdout)) if batches else "none")
    return OK


def _row(batch: Mapping[str, Any]) -> Cells:
    counts = batch["request_counts"]
    return (
        batch["id"],
        batch["status"],
        batch.get("model") or "-",
        counts["total"],
        counts["completed"],
        counts["failed"],
        _date(batch["created_at"]),
        _date(batch["expires_at"]),
    )


def _show(api: GatewayApi, options: Options) -> int:
    _print_batch(_batch(api, options.id), as_json=options.json)
    return OK


def _cancel(api: GatewayApi, options: Options) -> int:
    batch = api.post(f"{BATCHES}/{quote(options.id, safe='')}/cancel")
    _print_batch(batch, as_json=options.json)
    return OK


def _watch(
    api: GatewayApi,
    options: Options,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> int:
    progress = Progress(sys.stderr)
    batch, answered = _batch(api, options.id), now()
    while True:
        progress.show(progress_line(batch, now()))
        if batch["status"] in _ENDED:
            break
        sleep(WATCH_SECONDS)
        try:
            batch, answered = _batch(api, options.id), now()
        except gateway.NoAnswerError:
            if now() - answered > AWAY_SECONDS_MAX:
                raise
    progress.end()
    _print_batch(batch, as_json=options.json)
    return OK if batch["status"] == "completed" else FAILED


def progress_line(batch: Mapping[str, Any], now_seconds: float) -> str:
    """Return a batch's progress: a bar, counts, lines a second and the time that is left."""
    counts = batch["request_counts"]
    done, total = counts["completed"] + counts["failed"], counts["total"]
    line = f"{batch['status']} {bar(done, total)} {done:,} of {total:,} lines"
    if counts["failed"]:
        line += f", {counts['failed']:,} failed"
    begun = batch.get("in_progress_at")
    if begun and done and batch["status"] == "in_progress":
        rate = done / max(1.0, now_seconds - begun)
        line += f", {rate:.3g} a second, about {duration((total - done) / rate)} left"
    return line


def _upload(api: GatewayApi, options: Options) -> int:
    file = _uploaded(api, options.file)
    print(json.dumps(file, indent=2) if options.json else file["id"])
    return OK


def _uploaded(api: GatewayApi, path: Path) -> Mapping[str, Any]:
    """Upload a file in parts, and return its description."""
    size, progress = path.stat().st_size, Progress(sys.stderr)
    if not size:
        raise OSError(f"{path} is empty, or no regular file")
    about = {"filename": path.name, "purpose": "batch", "bytes": size}
    upload = api.post(UPLOADS, about | {"mime_type": "application/jsonl"})
    parts, sent = [], 0
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            parts.append(api.post(f"{UPLOADS}/{upload['id']}/parts", part=data)["id"])
            sent += len(data)
            progress.show(f"{bar(sent, size)} {sent:,} of {size:,} bytes of {printable(path.name)}")
    completed = api.post(f"{UPLOADS}/{upload['id']}/complete", {"part_ids": parts})
    progress.end()
    file_object: Mapping[str, Any] = completed["file"]
    return file_object


def _create(api: GatewayApi, options: Options) -> int:
    file_id = options.file
    if not is_id(file_id):
        file_id = _uploaded(api, Path(file_id))["id"]
    document = {
        "input_file_id": file_id,
        "endpoint": options.endpoint,
        "completion_window": options.window,
    }
    batch = api.post(BATCHES, document)
    if options.watch:
        options.id = batch["id"]
        return _watch(api, options)
    print(json.dumps(batch, indent=2) if options.json else batch["id"])
    return OK


def _download(api: GatewayApi, options: Options) -> int:
    file_id = options.id
    if file_id.startswith("batch_"):
        batch = _batch(api, file_id)
        name = "error_file_id" if options.errors else "output_file_id"
        if not (file_id := batch.get(name)):
            print_error(f"the batch is {batch['status']} and has no {name.removesuffix('_id')}")
            return FAILED
    size, done = api.get(f"{FILES}/{quote(file_id, safe='')}")["bytes"], 0
    with ExitStack() as stack:
        to_file = options.output is not None
        out = stack.enter_context(options.output.open("wb")) if to_file else sys.stdout.buffer
        progress = Progress(sys.stderr if to_file else None)
        for data in api.content(file_id):
            out.write(data)
            done += len(data)
            progress.show(f"{bar(done, size)} {done:,} of {size:,} bytes")
        progress.end()
    if done != size:
        print_error(f"the file ended after {done:,} of {size:,} bytes: try again")
        return FAILED
    return OK


def _batch(api: GatewayApi, batch_id: str) -> Mapping[str, Any]:
    batch: Mapping[str, Any] = api.get(f"{BATCHES}/{quote(batch_id, safe='')}")
    return batch


def _print_batch(
    batch: Mapping[str, Any], *, as_json: bool, now: Callable[[], float] = time.time
) -> None:
    if as_json:
        print(json.dumps(batch, indent=2))
        return
    print(progress_line(batch, now()))
    names = ("id", "model", "endpoint", "input_file_id", "output_file_id", "error_file_id")
    dates = (
        *("created_at", "in_progress_at", "finalizing_at", "completed_at", "failed_at"),
        *("cancelling_at", "cancelled_at", "expired_at", "expires_at"),
    )
    rows = [(name, str(batch[name])) for name in names if batch.get(name)]
    rows += [(name, _date(batch[name])) for name in dates if batch.get(name)]
    tokens = batch.get("usage") or {}
    rows += [(name, str(count)) for name, count in tokens.items() if isinstance(count, int)]
    print(table([("field", "value"), *rows], columns(sys.stdout)))
    errors = (batch.get("errors") or {}).get("data", [])
    if errors:
        print()
        cells = [(error.get("line"), error["code"], error["message"]) for error in errors]
        print(table([("line", "error", "message"), *cells], columns(sys.stdout)))


def _form(data: bytes) -> tuple[bytes, str]:
    """Return a multipart form whose only field is the data of an upload's part, and its type."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="upload"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _date(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
