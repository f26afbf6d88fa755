"""When a process that may be frozen writes what it has counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from functions._app import before_its_end, written


class Minutes:
    """Counts the writes; has nothing to write at first."""

    def __init__(self) -> None:
        self.is_empty = True
        self.flushes = 0

    async def flush(self) -> bool:
        wrote, self.is_empty = not self.is_empty, False
        self.flushes += wrote
        return wrote


async def test_the_figures_are_written_before_an_answer_ends_and_then_once_a_minute() -> None:
    minutes, seen, moments = (
        Minutes(),
        list[int](),
        iter((0.0, 1.0, 1.0, 2.0, 60.0, 61.0, 61.0, 62.0)),
    )

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            seen.append(minutes.flushes)

    # The clock is asked at each end, and again after each write.
    app = written(PlainTextResponse("x"), minutes, lambda: next(moments))  # type: ignore[arg-type]
    for _ in range(6):
        await app({"type": "http"}, None, send)  # type: ignore[arg-type]

    assert [0, 1, 1, 1, 2, 2] == seen


async def test_something_is_done_before_an_answers_last_piece_and_not_before() -> None:
    done = list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for body, more in ((b"1", True), (b"2", True), (b"3", False)):
            await send({"type": "http.response.body", "body": body, "more_body": more})

    async def do() -> None:
        done.append("done")

    async def send(message: Any) -> None:
        done.append(message["body"].decode())

    await before_its_end(app, do)({"type": "http"}, None, send)  # type: ignore[arg-type]

    assert ["1", "2", "done", "3"] == done


@pytest.mark.parametrize("fault", ["it fails", "it takes for ever"])
async def test_an_answers_last_piece_is_sent_whatever_becomes_of_that(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions._app.DONE_SECONDS_MAX", 0.01)
    sent = list[bytes]()

    async def do() -> None:
        if fault == "it fails":
            raise RuntimeError("made up")
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message.get("body"))

    await before_its_end(PlainTextResponse("x"), do)({"type": "http"}, None, send)  # type: ignore[arg-type]

    assert b"x" == sent[-1]
