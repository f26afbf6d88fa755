from __future__ import annotations

import logging

import pytest

from inferline.fleet.enrolment import MODELS_MAX, OfferedModel
from inferline_provider.backend.offer import by_hand, offered

LISTED = [OfferedModel.model_construct(id=name) for name in ("a", "org/b", "/m/My Model.gguf")]


def names(**changes: object) -> list[str]:
    chosen = {"wanted": (), "aliases": {}, **changes}
    return [model.id for model in offered(LISTED, **chosen)]  # type: ignore[arg-type]


def test_all_that_can_be_asked_for_is_offered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert names() == ["a", "org/b"]

    assert "--alias" in caplog.text


def test_an_alias_stands_in_for_the_name() -> None:
    aliases = {"mine": "/m/My Model.gguf", "b1": "org/b", "b2": "org/b"}

    assert names(aliases=aliases) == ["a", "b1", "b2", "mine"]


@pytest.mark.parametrize("wanted", [("b",), ("org/b",)])
def test_only_what_is_wanted_is_offered(wanted: tuple[str, ...]) -> None:
    assert names(wanted=wanted, aliases={"b": "org/b"}) == ["b"]


@pytest.mark.parametrize(
    ("wanted", "aliases", "listed"),
    [
        (("a", "b"), {}, ["a", "b"]),
        (("mine",), {"mine": "/m/g.gguf"}, ["/m/g.gguf"]),
        ((), {"mine": "/m/g.gguf", "too": "/m/g.gguf"}, ["/m/g.gguf"]),
        ((), {}, []),
    ],
)
def test_what_is_named_by_hand_stands_in_for_a_list(
    wanted: tuple[str, ...], aliases: dict[str, str], listed: list[str]
) -> None:
    assert listed == [model.id for model in by_hand(wanted, aliases)]


def test_there_is_a_most() -> None:
    many = [OfferedModel(id=f"m{n}") for n in range(MODELS_MAX + 5)]

    assert len(offered(many, (), {})) == MODELS_MAX
