"""What of a request reaches the backend beside its body."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferline.errors import InvalidRequest, ProviderFault
from inferline.memory.tasks import MemoryStore
from inferline.tasks.task import Task
from inferline.validation.forwarding import QUERY_CHARS_MAX, Forwarded, query_of, value_of
from inferline.validation.output_rules import check_row, check_task
from tests.support.forms import BOUNDARY, FORM, field, form
from tests.support.seams import new_task


@pytest.fixture
def task() -> Task:
    return new_task(MemoryStore())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ""),
        (b"beta=true&a=%20b+c", "beta=true&a=%20b+c"),
        (b"a=1&key=il_x&b=2", "a=1&b=2"),
        (b"API_KEY=x", ""),
        (b"%6bey=x&a=1", "a=1"),
        (b"a=1;access_token=x&b=2", "b=2"),
        (b"keyword=1&monkey=2", "keyword=1&monkey=2"),
        (b"apiToken=x&auth-token=x&id_token=x&x-goog-api-key=x&jwt=x&user.password=x", ""),
        (b"Ocp-Apim-Subscription-Key=x&X-Goog-Signature=x&client_secret=x&private-key=x", ""),
        (b"X-Amz-Security-Token=x&X-Amz-Credential=x&sessionToken=x&passwd=x&pwd=x", ""),
        (
            b"max_tokens=5&stop_token=x&sort_key=a&model=m",
            "max_tokens=5&stop_token=x&sort_key=a&model=m",
        ),
    ],
)
def test_a_query_goes_on_without_credentials(raw: bytes, expected: str) -> None:
    assert expected == query_of(raw)


@pytest.mark.parametrize("raw", [b"a b", b"a#b", b"a\r\nb", b"\xff", b"a" * (QUERY_CHARS_MAX + 1)])
def test_a_query_that_could_end_its_line_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        query_of(raw)


def test_a_header_on_several_lines_goes_on_as_one() -> None:
    assert "a-1,b-2" == value_of("anthropic-beta", ["a-1", "b-2"])


@pytest.mark.parametrize("lines", [[""], ["é"], ["a\r\nb"], ["a" * 2049], ["a"] * 2000])
def test_a_header_beyond_its_bounds_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        value_of("anthropic-beta", lines)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "a\r\nHost: b"},
        {"query": 5},
        {"request_headers": {"authorization": "x"}},
        {"request_headers": {"content-type": "a\r\nb: c"}},
        {"request_headers": {"content-type": 5}},
        {"request_headers": "content-type"},
    ],
)
def test_a_row_that_tells_of_more_is_a_breach(task: Task, row: dict[str, object]) -> None:
    with pytest.raises(ProviderFault):
        check_row(replace(task, **row))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row", [{"query": "a=1"}, {"request_headers": {"anthropic-beta": "b"}}, {"identity": "c"}]
)
def test_no_provider_may_change_it(task: Task, row: dict[str, object]) -> None:
    changed = replace(task, **row)  # type: ignore[arg-type]
    check_row(changed)

    with pytest.raises(ProviderFault):
        check_task(changed, task)


def test_a_repeat_is_known_by_all_that_was_asked_but_a_forms_boundary() -> None:
    body, other = form(field("model", "m")), form(field("model", "n"))
    rebound = body.replace(BOUNDARY.encode(), b"another")
    of_form = Forwarded(headers={"content-type": FORM})
    repeated = Forwarded(headers={"content-type": FORM.replace(BOUNDARY, "another")})

    assert of_form.identity(body) == repeated.identity(rebound) != of_form.identity(other)
    assert Forwarded("a=1").identity(b"{}") != Forwarded("a=2").identity(b"{}")
    assert "" == Forwarded().identity(b"{}")
