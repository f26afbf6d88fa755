"""The pipeline of stages: their order, and the bytes held back at the end."""

from __future__ import annotations

from inferline.gateway.answer.stages.pipeline import Pipeline


class Delay:
    """A stage that holds each piece back until the next."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held: list[bytes] = []

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the pieces held back, marked."""
        out, self._held = self._held, [piece + self._mark for piece in pieces]
        return out

    def end(self) -> list[bytes]:
        """Return what is held back."""
        return self.feed([])


def test_a_stage_is_fed_what_the_one_before_gives_out() -> None:
    pipeline = Pipeline([Delay(b"1"), Delay(b"2")])

    pieces = [*pipeline.feed([b"a"]), *pipeline.feed([b"b"]), *pipeline.feed([b"c"])]

    assert [b"a12"] == pieces


def test_the_end_brings_out_what_every_stage_holds_in_order() -> None:
    pipeline = Pipeline([Delay(b"1"), Delay(b"2")])
    pieces = [*pipeline.feed([b"a"]), *pipeline.feed([b"b"])]

    assert [b"a12", b"b12"] == [*pieces, *pipeline.end()]
