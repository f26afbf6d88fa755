#!/usr/bin/env bash
# anthropic-python 2.14.0 has no `temperature`, `top_p` and `top_k` any more: TypeError before anything is sent.
#
# Guess: messages.create(temperature=0) works with every version of the SDK, since the Messages API of vLLM and llama.cpp takes it.
# What it does: 0.70 takes it; 2.14.0 raises TypeError for the three names and sends nothing. A server's users who upgrade have
# to say it in `extra_body`, which goes into the body as before; an operator sees no request at all.
#
# Seen on 1 December 2026, Python 3.11:
#   anthropic 0.70.0, temperature=0: sent {'temperature': 0}
#   anthropic 2.14.0, temperature=0: TypeError
#   anthropic 2.14.0, top_p=1: TypeError
#   anthropic 2.14.0, top_k=1: TypeError
#   anthropic 2.14.0, extra_body: sent {'temperature': 0}
#   as expected: the second major version takes them in extra_body alone
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/ask.py" <<'PY'
import http.server, json, sys, threading

import anthropic

NAMES = ("temperature", "top_p", "top_k")
bodies = []


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        answer = {"id": "msg_a", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        answer |= {"content": [{"type": "text", "text": "Hi."}], "usage": {"input_tokens": 1, "output_tokens": 1}}
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)


def ask(label, **options):
    bodies.clear()
    try:
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi."}], **options)
    except TypeError:
        seen = "TypeError"
        assert not bodies
    else:
        seen = "sent %s" % {name: bodies[0][name] for name in NAMES if name in bodies[0]}
    print(f"anthropic {anthropic.__version__}, {label}: {seen}")
    return seen


given = ask("temperature=0", temperature=0)
if anthropic.__version__.startswith("0."):
    raise SystemExit(given != "sent {'temperature': 0}")
others = [ask("top_p=1", top_p=1), ask("top_k=1", top_k=1)]
extra = ask("extra_body", extra_body={"temperature": 0})
same = {given, *others} == {"TypeError"} and extra == "sent {'temperature': 0}"
print("as expected: the second major version takes them in extra_body alone" if same else "CHANGED")
raise SystemExit(not same)
PY
for version in 0.70.0 2.14.0; do
  "${PYTHON:-python3}" -m venv "$work/$version"
  "$work/$version/bin/pip" install -qq "anthropic==$version"
  "$work/$version/bin/python" "$work/ask.py"
done
