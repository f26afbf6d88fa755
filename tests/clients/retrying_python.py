"""openai-python that asks once and leaves what goes wrong to its own retries."""

from __future__ import annotations

import json
import sys

import openai

base_url, body = sys.argv[1], json.loads(sys.argv[2])
client = openai.OpenAI(base_url=base_url, api_key="test", timeout=60, max_retries=10)
script = body.pop("x_script")
answer = client.chat.completions.with_raw_response.create(**body, extra_body={"x_script": script})
seen = {
    "text": answer.parse().choices[0].message.content,
    "request_id": answer.headers["x-request-id"],
    "retries": answer.retries_taken,
}
print(json.dumps(seen))
