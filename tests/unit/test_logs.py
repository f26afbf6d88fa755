"""A log has no word of what an exception says, whoever writes the line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from functions import _wiring
from inferline import logs

CANARY = "canary-of-a-prompt"


@pytest.fixture(params=["for people", "as JSON"])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Yield what a process writes, all libraries at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        logs.Formatter()
        if request.param == "for people"
        else _wiring._Formatter(service="s", serialize_stacktrace=False)
    )
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def broken() -> None:
    words = f"{CANARY} could not be read"
    try:
        raise KeyError(words)
    except KeyError as error:
        raise ExceptionGroup(words, [ValueError(words)]) from error


def test_an_exception_is_told_by_its_kind_and_place_alone(written: io.StringIO) -> None:
    try:
        broken()
    except ExceptionGroup:
        logging.getLogger("inferline.x").exception("it broke")

    output = written.getvalue()
    assert "it broke" in output
    assert [] == [
        name for name in ("KeyError", "ValueError", "ExceptionGroup") if name not in output
    ]
    assert "in broken" in output
    assert CANARY not in output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_asyncio_tells_of_a_failed_call_is_not_passed_on(written: io.StringIO) -> None:
    def fall_over(argument: str) -> None:
        raise ValueError(argument)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fall_over, CANARY)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())

    output = written.getvalue()
    assert "a call failed unforeseen" in output
    assert "in fall_over" in output
    assert CANARY not in output


def test_another_handler_gets_a_record_as_it_was_made(written: io.StringIO) -> None:
    seen: list[str] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    log, other = logging.getLogger("asyncio"), Other()
    log.addHandler(other)
    log.error("first\nsecond")
    log.removeHandler(other)

    assert ["first\nsecond"] == seen
    assert "second" not in written.getvalue()


def test_libraries_tell_no_details_at_any_level(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        logs.write("DEBUG", "ours")
        logging.getLogger("ours.part").debug("a detail of ours")
        logging.getLogger("a_library").debug("a detail of theirs")
        logging.getLogger("a_library").warning("a warning of theirs")
    finally:
        root.handlers = handlers
        root.setLevel(level)
        logging.getLogger("ours").setLevel(logging.NOTSET)

    output = capfd.readouterr().err
    assert ["a detail of ours", "a warning of theirs"] == [
        line.split(maxsplit=4)[4] for line in output.splitlines()
    ]


def test_a_line_as_json_has_what_the_code_put_into_it(written: io.StringIO) -> None:
    logging.getLogger("inferline.x").warning("a line", extra={"task": "req_1"})

    output = written.getvalue()
    assert "a line" in output
    if output.startswith("{"):
        assert "req_1" == json.loads(output)["task"]
