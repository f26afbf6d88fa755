"""W3C's trace context, read strictly."""

from __future__ import annotations

import pytest

from inferline.telemetry.trace import NO_TRACER, TraceParent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOLD = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_read_and_written_as_it_was() -> None:
    parent = TraceParent.parse(TOLD)

    assert TraceParent(TRACE, SPAN, sampled=True) == parent
    assert TOLD == str(parent)


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True)])
def test_whether_a_trace_is_kept_is_its_lowest_flag(flags: str, sampled: bool) -> None:
    parent = TraceParent.parse(f"00-{TRACE}-{SPAN}-{flags}")

    assert parent is not None
    assert sampled is parent.sampled


@pytest.mark.parametrize(
    "text",
    [
        "",
        TOLD.upper(),
        f" {TOLD}",
        f"{TOLD}\n",
        f"{TOLD}-more",
        f"01-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",
        "a prompt",
    ],
)
def test_what_is_not_exactly_a_context_is_none(text: str) -> None:
    assert TraceParent.parse(text) is None


def test_a_new_trace_is_one_that_others_can_read() -> None:
    made = TraceParent.new()

    assert made == TraceParent.parse(str(made))
    assert made != TraceParent.new()


def test_who_keeps_no_spans_passes_the_context_on_as_it_came() -> None:
    parent = TraceParent.parse(TOLD)

    assert parent == NO_TRACER.begin("server", parent, 0).context
