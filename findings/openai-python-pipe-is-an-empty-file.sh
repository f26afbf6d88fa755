#!/usr/bin/env bash
# openai-python 2.54.0 uploads an empty file, and says that all is well, if `files.create(file=...)` gets a pipe; 3.57.0 raises an
# error that is none of its own.
#
# Guess: a pipe (a process's stdout, stdin) is sent in chunks, since its length is not known, or it is refused before anything is sent.
# What it does: httpx asks the file descriptor for the length, and a pipe's is 0, so the body is longer than its Content-Length. 2.54.0 takes
# that for a connection error and tries again. Each try reads 64 KiB of the pipe; once it is read, within three tries for up to 128 KiB, the
# next request is a valid upload of a file without a byte, and `files.create` returns its id. (A longer pipe: APIConnectionError.) 3.57.0 does
# not try again; what it raises is httpx's LocalProtocolError, which `except openai.OpenAIError` does not catch. `gzip.open(...)` fails with
# both: the length is that of the compressed file. For a server: an empty file may be a client's mishap, so a batch of one should be refused
# with a message that says so.
#
# Seen on 1 December 2026, Python 3.11:
#   openai 2.54.0: pipe of 20890 bytes: returns an id, the server has a file of 0 bytes, after 2 requests
#   openai 2.54.0: gzip.open: APIConnectionError, an OpenAIError: True
#   openai 3.57.0: pipe of 20890 bytes: LocalProtocolError, an OpenAIError: False
#   openai 3.57.0: gzip.open: LocalProtocolError, an OpenAIError: False
#   as expected: with 2.54.0 a pipe becomes an empty file
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/ask.py" <<'PY'
import gzip, http.server, json, subprocess, sys, threading
from pathlib import Path

import openai

LINES = b"".join(b'{"custom_id": "%d"}\n' % number for number in range(1000))
files, requests = [], []


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        requests.append(self.path)
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return
        [part] = [part for part in body.split(b"\r\n--") if b"filename=" in part]
        files.append(part.partition(b"\r\n\r\n")[2])
        answer = {"id": "file-1", "object": "file", "bytes": len(files[-1]), "created_at": 1}
        answer |= {"filename": "lines.jsonl", "purpose": "batch", "status": "processed"}
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


def upload(file):
    files.clear(), requests.clear()
    try:
        client.files.create(file=file, purpose="batch")
    except Exception as error:
        return f"{type(error).__name__}, an OpenAIError: {isinstance(error, openai.OpenAIError)}"
    return f"returns an id, the server has a file of {len(files[-1])} bytes, after {len(requests)} requests"


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
path = Path(sys.argv[1], "lines.jsonl")
path.write_bytes(LINES)
with path.open("rb") as file:
    assert upload(file) == f"returns an id, the server has a file of {len(LINES)} bytes, after 1 requests"
with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
    piped = upload(process.stdout)
with gzip.open(path.with_suffix(".gz"), "wb") as file:
    file.write(LINES)
with gzip.open(path.with_suffix(".gz"), "rb") as file:
    packed = upload(file)
print(f"openai {openai.__version__}: pipe of {len(LINES)} bytes: {piped}")
print(f"openai {openai.__version__}: gzip.open: {packed}")
expected = {
    "2.54.0": (
        "returns an id, the server has a file of 0 bytes, after 2 requests",
        "APIConnectionError, an OpenAIError: True",
    ),
    "3.57.0": ("LocalProtocolError, an OpenAIError: False",) * 2,
}
raise SystemExit((piped, packed) != expected[openai.__version__])
PY
same=true
for version in 2.54.0 3.57.0; do
  "${PYTHON:-python3}" -m venv "$work/$version"
  "$work/$version/bin/pip" install -qq --disable-pip-version-check "openai==$version"
  "$work/$version/bin/python" "$work/ask.py" "$work" || same=false
done
$same && echo "as expected: with 2.54.0 a pipe becomes an empty file" || { echo CHANGED; exit 1; }
