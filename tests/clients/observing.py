"""What the client scripts share: each case is run, and what its user would see is written down."""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

Seen = dict[str, Any]

QUESTION = [{"role": "user", "content": "Who carries the tasks?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
#: A server error that passes when the same request comes again.
FAILS_ONCE = {"status": 503, "retry_after": 1, "times": 1, "key": uuid.uuid4().hex}
#: The same, when the server asks not to come again.
FAILS_FOR_GOOD = {"status": 503, "headers": {"x-should-retry": "false"}}
REFUSED = {"status": 400}
BREAKS = {"error_event_after": 3}
HANGS = {"hang": True}


class Observer:
    """Runs cases, and prints what was seen as one JSON object."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--base-url", required=True, help="what is tested, with /v1")
        parser.add_argument("--backend", required=True, help="the scripted server behind it")
        parser.add_argument("--model", required=True)
        flags = parser.parse_args()
        self.base_url: str = flags.base_url
        self.model: str = flags.model
        self._backend: str = flags.backend
        self.seen: dict[str, Seen] = {}

    def see(self, name: str, case: Callable[[], Seen]) -> None:
        """Run a case; an exception is a sight like any other."""
        calls, start = self.state()["calls"], time.monotonic()
        try:
            seen = case()
        except Exception as error:  # noqa: BLE001 - whichever it is, it is what the user gets
            seen = describe(error)
        seen["seconds"] = round(time.monotonic() - start, 3)
        seen["calls"] = self.state()["calls"] - calls
        self.seen[name] = seen

    def see_timeout(self, case: Callable[[], Seen]) -> None:
        """Run a case that ends by the client's own timeout; note when the backend is idle again."""
        self.see("timeout", case)
        start = time.monotonic()
        while self.state()["running"] and time.monotonic() - start < 10:
            time.sleep(0.05)
        self.seen["timeout"]["backend_running"] = self.state()["running"]

    def state(self) -> Seen:
        with urllib.request.urlopen(f"{self._backend}/_script/state", timeout=10) as answer:
            return dict(json.load(answer))

    def finish(self) -> None:
        print(json.dumps(self.seen))


def describe(error: Exception) -> Seen:
    """Note what a user's `except` can go by."""
    return {
        "error": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "request_id": getattr(error, "request_id", None),
        "message": str(error)[:300],
    }
