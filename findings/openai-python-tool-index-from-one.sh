#!/usr/bin/env bash
# openai-python 3.57.0: the stream helper fails on a stream whose only tool call has index 1.
#
# Adapters that number all blocks of an answer send such streams: text is block 0, the first tool call block 1.
# Guess: `index` only tells calls apart, so a number that begins at 1 is taken like one that begins at 0.
# What it does: `client.chat.completions.stream(...)` raises IndexError, because the index is a place in a list that has to be filled
# in order; langchain-openai 1.7.4 takes the same stream. A router that joins or cuts streams (one that removes a call, say) has to
# number the calls from 0 again.
#
# Seen on 1 December 2026, Python 3.11:
#   openai, index 0: get_weather {"city": "Oslo"}
#   openai, index 1: IndexError: list index out of range
#   langchain-openai, index 1: get_weather {'city': 'Oslo'}
#   as expected: only openai's helper minds where the numbers begin
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq openai==3.57.0 langchain-openai==1.7.4
cat > "$work/ask.py" <<'PY'
import http.server, json, threading

ARGUMENTS = '{"city": "Oslo"}'


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        index = int(asked["model"])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        call = {"index": index, "id": "call_a", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        deltas = [{"role": "assistant", "content": "Let me look."}, {"tool_calls": [call]}]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": ARGUMENTS}}]}, {}]
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "tool_calls"}
            event = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


def with_openai(index):
    import openai

    said = [{"role": "user", "content": "The weather?"}]
    try:
        with openai.OpenAI(**where).chat.completions.stream(model=str(index), messages=said, tools=[TOOL]) as stream:
            [call] = stream.get_final_completion().choices[0].message.tool_calls
    except IndexError as error:
        return f"IndexError: {error}"
    return f"{call.function.name} {call.function.arguments}"


def with_langchain(index):
    from langchain_openai import ChatOpenAI

    whole = None
    for chunk in ChatOpenAI(model=str(index), **where).bind_tools([TOOL]).stream("The weather?"):
        whole = chunk if whole is None else whole + chunk
    [call] = whole.tool_calls
    return f"{call['name']} {call['args']}"


first, second, other = with_openai(0), with_openai(1), with_langchain(1)
print("openai, index 0:", first)
print("openai, index 1:", second)
print("langchain-openai, index 1:", other)
same = first == f"get_weather {ARGUMENTS}" and second.startswith("IndexError") and other == "get_weather {'city': 'Oslo'}"
print("as expected: only openai's helper minds where the numbers begin" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/venv/bin/python" -W ignore "$work/ask.py"
