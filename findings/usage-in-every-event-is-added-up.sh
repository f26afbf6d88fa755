#!/usr/bin/env bash
# A stream whose every event carries the usage so far: langchain-openai 1.7.4 and pydantic-ai 2.68.0 add the figures up.
#
# Servers send such streams: vLLM with `stream_options.continuous_usage_stats`, and others unasked.
# Guess: a running total replaces the one before, so clients keep the last.
# What happens: openai 3.57.0's stream helper keeps the last (100 prompt tokens). LangChain and pydantic-ai report 800 for the same
# stream of eight events: a limit or a bill on their figures is wrong by the number of events. A router that meets such a server
# should pass on the last usage alone.
#
# Seen on 1 December 2026, Python 3.11:
#   openai 3.57.0: 100 prompt, 5 completion
#   langchain-openai 1.7.4: 800 prompt, 25 completion
#   pydantic-ai 2.68.0: 800 prompt, 25 completion
#   as expected: two of three add up what is a running total
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq openai==3.57.0 langchain-openai==1.7.4 'pydantic-ai-slim[openai]==2.68.0'
cat > "$work/ask.py" <<'PY'
import asyncio, http.server, json, threading


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        # A first event, five words, the reason, and the event for usage that OpenAI has as well.
        steps = [({"role": "assistant", "content": ""}, None, 0)]
        steps += [({"content": f" {n}"}, None, n) for n in range(1, 6)] + [({}, "stop", 5), (None, None, 5)]
        for delta, reason, tokens in steps:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
            usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
            event = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage}
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}


def with_openai():
    import openai

    said = [{"role": "user", "content": "Count."}]
    asked = {"model": "m", "messages": said, "stream_options": {"include_usage": True}}
    with openai.OpenAI(**where).chat.completions.stream(**asked) as stream:
        usage = stream.get_final_completion().usage
    return usage.prompt_tokens, usage.completion_tokens


def with_langchain():
    from langchain_openai import ChatOpenAI

    whole = None
    for chunk in ChatOpenAI(model="m", stream_usage=True, **where).stream("Count."):
        whole = chunk if whole is None else whole + chunk
    return whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]


async def with_pydantic_ai():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async with Agent(OpenAIChatModel("m", provider=OpenAIProvider(**where))).run_stream("Count.") as result:
        await result.get_output()
        usage = result.usage() if callable(result.usage) else result.usage
    return usage.input_tokens, usage.output_tokens


seen = {
    "openai 3.57.0": with_openai(),
    "langchain-openai 1.7.4": with_langchain(),
    "pydantic-ai 2.68.0": asyncio.run(with_pydantic_ai()),
}
for name, tokens in seen.items():
    print("%s: %d prompt, %d completion" % (name, *tokens))
same = list(seen.values()) == [(100, 5), (800, 25), (800, 25)]
print("as expected: two of three add up what is a running total" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/venv/bin/python" -W ignore "$work/ask.py"
