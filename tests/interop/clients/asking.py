"""What the clients' scripts share: one case is run, and what its user would see is printed."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

#: With `/v1`; the Messages API's clients want it without.
BASE_URL = os.environ["INTEROP_BASE_URL"]
ROOT_URL = BASE_URL.removesuffix("/v1")
MODEL = os.environ["INTEROP_MODEL"]
PROMPT = "Who carries the tasks?"
LONG_PROMPT = "Tell me a long story about a conveyor belt."
TOKENS = 24
#: What the tool answers; the scripted server is asked afterwards whether it has come to it.
PROOF = "interop-42"
#: A stream that is to be cancelled is closed after so many pieces.
CANCELLED_AFTER = 4

Seen = dict[str, Any]


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"{PROOF} in {city}"


TOOL_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


def run(cases: dict[str, Callable[[], Seen]]) -> None:
    """Run the case that is named on the command line; an exception is a sight like any other."""
    name = sys.argv[1]
    if name == "cases":
        print(json.dumps(sorted(cases)))
        return
    try:
        seen = cases[name]()
    except Exception as error:  # noqa: BLE001 - whichever it is, it is what the user gets
        traceback.print_exc()
        status = getattr(error, "status_code", None)
        seen = {"error": f"{type(error).__name__}: {error}", "status": status}
    print(json.dumps(seen))
    # Some libraries keep threads that wait for a telemetry server which is not there.
    sys.stdout.flush()
    os._exit(0)
