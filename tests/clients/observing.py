"""What the client scripts share: each case is run, and what its user would see is written down."""

from __future__ import annotations

import argparse
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
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
#: The backend is busy, and not any more when the same request comes again.
FAILS_ONCE = {"status": 503, "retry_after": 1, "times": 1, "key": uuid.uuid4().hex}
#: The backend is busy for as long as one asks.
FAILS_FOR_GOOD = {"status": 503}
REFUSED = {"status": 400}
#: The backend tells of an error in the middle of its stream, and of another each time that the
#: answer is continued; slow enough that a part of it is out by then. (An error that the provider
#: reads together with the first tokens is the whole answer: nothing of it was out.)
BREAKS = {"error_event_after": 3, "interval": 0.1}
#: The backend is gone in the middle of its stream; slow enough that a part of it is out by then.
#: It is back when the rest is asked for.
DIES = {"abort_after_tokens": 3, "interval": 0.1, "times": 1, "key": uuid.uuid4().hex}
HANGS = {"hang": True}


class Observer:
    """Runs cases, and prints what was seen as one JSON object."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--base-url", required=True, help="what is tested, with /v1")
        parser.add_argument("--backend", required=True, help="the scripted server behind it")
        parser.add_argument("--model", required=True)
        parser.add_argument("--unserved", required=True, help="a model that nobody serves")
        flags = parser.parse_args()
        self.base_url: str = flags.base_url
        self.model: str = flags.model
        self.unserved: str = flags.unserved
        self._backend: str = flags.backend
        self._meanwhile: list[threading.Thread] = []
        self.seen: dict[str, Seen] = {}

    def see(self, name: str, case: Callable[[], Seen]) -> None:
        """Run a case; an exception is a sight like any other."""
        self._settle()
        calls = self.state()["calls"]
        self.seen[name] = timed(case)
        self.seen[name]["calls"] = self.state()["calls"] - calls

    def see_meanwhile(self, name: str, case: Callable[[], Seen]) -> None:
        """Run a case beside all others: one that waits long and never reaches the backend."""

        def run() -> None:
            self.seen[name] = timed(case)

        self._meanwhile.append(threading.Thread(target=run))
        self._meanwhile[-1].start()

    def see_timeout(self, case: Callable[[], Seen]) -> None:
        """Run a case that ends by the client's own timeout; note when the backend is idle again."""
        self.see("timeout", case)
        start = time.monotonic()
        while self.state()["running"] and time.monotonic() - start < 60:
            time.sleep(0.02)
        self.seen["timeout"]["freed_seconds"] = round(time.monotonic() - start, 3)

    def _settle(self) -> None:
        """Wait until the provider takes work again: it leaves a backend that failed alone."""
        body = json.dumps({"model": self.model, "input": "a"}).encode()
        headers = {"content-type": "application/json", "authorization": "Bearer test"}
        for _ in range(20):
            asked = urllib.request.Request(f"{self.base_url}/embeddings", body, headers)
            with suppress(urllib.error.HTTPError), urllib.request.urlopen(asked, timeout=60):
                return

    def state(self) -> Seen:
        with urllib.request.urlopen(f"{self._backend}/_script/state", timeout=60) as answer:
            return dict(json.load(answer))

    def finish(self) -> None:
        for thread in self._meanwhile:
            thread.join()
        print(json.dumps(self.seen))


def timed(case: Callable[[], Seen]) -> Seen:
    start = time.monotonic()
    try:
        seen = case()
    except Exception as error:  # noqa: BLE001 - whichever it is, it is what the user gets
        seen = describe(error)
    return seen | {"seconds": round(time.monotonic() - start, 3)}


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
