#!/usr/bin/env bash
# openai-python 2.54.0 and 3.57.0: `files.content(id).iter_lines()` cuts a line of a JSONL file in its middle.
#
# Guess: a batch's output file has one JSON object a line, so `for line in content.iter_lines(): json.loads(line)` reads it, whatever
# the answers say.
# What it does: httpx ends lines where Python's `splitlines` does: also at U+0085, U+2028 and U+2029, which JSON allows as they are within
# a string, and which models do write. One answer with such a character becomes two pieces of JSON, and neither can be read. The same file
# is whole with `content.read().split(b"\n")`. A server that wants to be read by everybody escapes the three in its JSONL.
#
# Seen on 1 December 2026, Python 3.11:
#   openai 2.54.0: 2 lines of JSONL are 5 by iter_lines, 2 by split at \n
#   openai 3.57.0: 2 lines of JSONL are 5 by iter_lines, 2 by split at \n
#   as expected: iter_lines cuts at U+2028, U+0085 and U+2029
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/ask.py" <<'PY'
import http.server, json, threading

import openai

LINES = [{"custom_id": "a", "response": "one\u2028two\x85three\u2029four"}, {"custom_id": "b", "response": "five"}]
FILE = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(FILE)))
        self.end_headers()
        self.wfile.write(FILE)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
cut = list(client.files.content("file-1").iter_lines())
whole = client.files.content("file-1").read().removesuffix(b"\n").split(b"\n")
assert [json.loads(line) for line in whole] == LINES
print("openai %s: 2 lines of JSONL are %d by iter_lines, %d by split at \\n" % (openai.__version__, len(cut), len(whole)))
raise SystemExit((len(cut), len(whole)) != (5, 2))
PY
same=true
for version in 2.54.0 3.57.0; do
  "${PYTHON:-python3}" -m venv "$work/$version"
  "$work/$version/bin/pip" install -qq --disable-pip-version-check "openai==$version"
  "$work/$version/bin/python" "$work/ask.py" || same=false
done
$same && echo "as expected: iter_lines cuts at U+2028, U+0085 and U+2029" || { echo CHANGED; exit 1; }
