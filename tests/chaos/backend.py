"""
A scripted LLM server whose every token tells who made it, so that no mixture passes for an answer.

    python -m tests.chaos.backend --port P --name b1 --tally FILE

A token reads ` r17.b1.s4f2.0`: for request r17, made by backend b1 in its run s4f2, the first. A
request that ends in such text, as one does that is to be continued, gets the tokens after it, in
a run that begins with `c`. Each token that is made adds a byte to the tally, which outlives us.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from aiohttp import web

from tests.support.answers import Asked, Json
from tests.support.backend import ROUTES, Backend, serving
from tests.support.script import Script, scripted, stream

#: One token as it stands in a text.
TOKEN = re.compile(r" (r\d+)\.(\w+)\.([sc][0-9a-f]+)\.(\d+)")
MODEL = "chaos-model"


def given_text(path: str, body: Json) -> str:
    """Return the text that a request ends in and that the answer is to continue; empty for none."""
    if path.endswith("/chat/completions"):
        last = (body.get("messages") or [{}])[-1]
        return str(last.get("content") or "") if last.get("role") == "assistant" else ""
    return str(body.get("prompt") or "")


def said_in(text: str) -> int:
    """Return how many tokens of an answer a text ends in."""
    tokens = list(TOKEN.finditer(text))
    return int(tokens[-1][4]) + 1 if tokens and tokens[-1].end() == len(text) else 0


@dataclass(frozen=True)
class _Tallied(Sequence[bytes]):
    """The events of an answer; each that is taken to be sent is counted."""

    steps: Sequence[bytes]
    tally: int

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, at: Any) -> Any:
        step = self.steps[at]
        os.write(self.tally, b".")
        return step


class TellingBackend(Backend):
    """Answers so that each token can be told from every other."""

    def __init__(self, name: str, tally: int) -> None:
        super().__init__(models=(MODEL,), slots=8, script=Script(first=0.01, interval=0.005))
        self._name = name
        self._tally = tally
        #: How often each request was made.
        self._asked: Counter[str] = Counter()

    async def _play(self, request: web.Request, body: Json, script: Script) -> web.StreamResponse:
        start = asyncio.get_running_loop().time()
        self._asked[body.get("user", "")] += 1
        if script.times is not None and self._asked[body.get("user", "")] > script.times:
            script = Script(first=script.first, interval=script.interval, tokens=script.tokens)
        if script.status is not None:
            return scripted(script, script.status)
        tokens = self._tokens(request.path, body, script.tokens)
        answer = ROUTES[request.path](Asked(body, len(tokens), emoji=False, said=tokens))
        if body.get("stream"):
            answer = replace(answer, steps=_Tallied(answer.steps, self._tally))
            return await stream(request, answer, script, start)
        response = await self._whole(request, answer, script, start)
        os.write(self._tally, b"." * len(tokens))
        return response

    def _tokens(self, path: str, body: Json, count: int) -> tuple[str, ...]:
        """Return what is left to say. Where that is nothing, the end still takes an event."""
        said = said_in(given_text(path, body))
        run = ("c" if said else "s") + secrets.token_hex(2)
        who = f"{body.get('user', 'r0')}.{self._name}.{run}"
        return tuple(f" {who}.{number}" for number in range(said, count)) or ("",)


async def _serve(backend: Backend, port: int) -> None:
    async with serving(backend, port):
        await asyncio.Event().wait()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="Serve the scripted LLM of the chaos run.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--tally", required=True)
    flags = parser.parse_args()
    tally = os.open(flags.tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(TellingBackend(flags.name, tally), flags.port))


if __name__ == "__main__":
    main()
