"""An SDK whose gateway is killed asks again by itself, and gets the answer that was under way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS, ROOT, environment, require
from tests.support.line import MODEL, get_json, running_line, until

HERE = Path(__file__).parent
SCRIPTS = {
    "openai-python 3": "retrying_python.py",
    "openai-python 2": "retrying_python.py",
    "openai-node": "node/retrying_node.mjs",
}
#: Long enough for the gateway to be back and the SDK to have come back too.
ANSWER_SECONDS = 15
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Who carries the tasks?"}],
    "x_script": {"first": ANSWER_SECONDS, "interval": 0.0},
}


@pytest.mark.parametrize("client", SCRIPTS)
def test_a_retry_after_a_killed_gateway_gets_the_answer_under_way(client: str) -> None:
    require(client)
    with running_line(INFERLINE_READER_SECONDS="2") as line:
        command = [CLIENTS[client][0], str(HERE / SCRIPTS[client]), f"{line.url}/v1"]
        asking = subprocess.Popen(
            [*command, json.dumps(BODY)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: line.backend_state()["running"], "it is asked")

        line.parts[1].kill()
        line.start_gateway(port=int(line.url.rpartition(":")[2]))
        out, err = asking.communicate(timeout=60)

        assert 0 == asking.returncode, err[-3000:]
        seen = json.loads(out)
        task = get_json(f"{line.url}/v1/tasks/{seen['request_id']}")
        assert seen["retries"] >= 1
        assert 1 == line.backend_state()["calls"]
        assert ("DONE", 1) == (task["state"], task["attempt"])
        assert task["result"]["choices"][0]["message"]["content"] == seen["text"]
