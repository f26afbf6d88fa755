"""Whatever a provider tells of itself: it is refused, or everybody else goes on undisturbed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.registry_rows import (
    model_of,
    model_row,
    provider_of,
    provider_row,
    serving_row,
)
from inferline.fleet.aggregation import aggregate, changed
from inferline.fleet.registry import NOBODY
from tests.support.fuzzing import fuzz
from tests.support.gateway import MODEL
from tests.support.hostile import dumped, values
from tests.support.judged import judge
from tests.support.served import Served

#: Of an item, bytes, and of a number, digits, as DynamoDB takes them.
ITEM_BYTES_MAX = 400_000
DIGITS_MAX = 38

#: Most are printable, so that most enrolments are read to their end.
texts = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20)
hostile_texts = st.text(max_size=20)
names = st.sampled_from([MODEL, "a", "b/c:d@e", "+.fifo", "x" * 128])
positive = st.floats(0, 1e9) | st.sampled_from([5e-324, 1e-308, 0.0005, 1e9, 1e308, -0.0])
counts = st.integers(0, 100_000) | st.sampled_from([2**63, 10**40, 10**400, -1])
offered = st.fixed_dictionaries(
    {"id": names},
    optional={
        "created": st.integers(0, 2**31) | counts,
        "context_length": st.integers(1, 10**6) | counts,
        "owned_by": texts | texts | hostile_texts | st.just("\ud800"),
    },
)
speeds = st.fixed_dictionaries({"task_seconds": positive}, optional={"tokens_per_second": positive})
enrolments = st.fixed_dictionaries(
    {
        "version": texts | texts | hostile_texts,
        "slots": st.integers(0, 100_000) | counts,
        "models": st.lists(offered, max_size=4),
    },
    optional={
        "running": counts,
        "healthy": st.booleans(),
        "service_seconds": positive,
        "tokens_per_second": positive,
        "reason": texts
        | texts
        | hostile_texts
        | st.sampled_from(["\ud800", "\x00\x1b[2J", "x" * 300]),
        "speeds": st.dictionaries(names, speeds, max_size=3),
        "takes_reserved": st.booleans(),
        "x": values,
    },
)
TOLD: dict[str, Any] = {"version": "1", "slots": 1, "models": [{"id": MODEL}]}
FAST = {MODEL: {"task_seconds": 5e-324, "tokens_per_second": 1e9}}
SLOW = {MODEL: {"task_seconds": 1e9, "tokens_per_second": 5e-324}}


@fuzz(250)
@given(enrolments, enrolments)
@example({**TOLD, "speeds": FAST}, {**TOLD, "speeds": SLOW})
@example({**TOLD, "service_seconds": 5e-324}, {**TOLD, "service_seconds": 1e308})
@example({**TOLD, "models": [{"id": "a", "created": 10**40}]}, TOLD)
@example(TOLD, {**TOLD, "running": 10**40})
@example({**TOLD, "models": [{"id": "a"}, {"id": "a"}]}, TOLD)
def test_no_provider_disturbs_anybody(
    open_gateway: Served, one: dict[str, Any], other: dict[str, Any]
) -> None:
    for name, enrolment in (("one", one), ("other", other), ("one", one)):
        body = dumped({"id": name, **enrolment})
        answer = open_gateway.ask("enrolments", "POST", b"/v1/providers", headers=JSON, body=body)
        judge(answer)
        assert answer.status in (200, 400)

    _check_rows(open_gateway)
    for path in (b"/providers", b"/models", b"/health", b"/overview", b"/queue/stats"):
        answer = open_gateway.ask("enrolments", "GET", b"/v1" + path)
        judge(answer)
        assert (200, True) == (answer.status, bool(answer.json()))
    for name in (b"one", b"other"):
        judge(open_gateway.ask("enrolments", "DELETE", b"/v1/providers/" + name))


JSON = [(b"Content-Type", b"application/json")]


def _check_rows(gateway: Served) -> None:
    """Fail unless DynamoDB takes the rows that there are, and the same is read from them."""
    snapshot = gateway.run(gateway.gateway.registry.snapshot())
    for provider in snapshot.providers.values():
        row = provider_row(provider)
        _check_item(to_item(row))
        assert len(set(provider.models)) == len(provider_of(row).models)
    read = [provider_of(provider_row(provider)) for provider in snapshot.providers.values()]
    for model in snapshot.models.values():
        for servings in (aggregate(snapshot.providers.values()), aggregate(read)):
            serving = servings.get(model.id, NOBODY)
            row = model_row(model) | {"serving": serving_row(serving)}
            _check_item(to_item({name: value for name, value in row.items() if value is not None}))
            assert changed(model_of(row).serving, serving, 35.0) in (True, False)


def _check_item(item: dict[str, Any]) -> None:
    assert len(dumped(item)) < ITEM_BYTES_MAX
    for number in _numbers(item):
        assert len(number.lstrip("-")) <= DIGITS_MAX, number


def _numbers(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("N"), str):
            yield node["N"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _numbers(one)
