"""The validation of a batch's input: what is a line, what is wrong with it, and what is run."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from inferline.accounts.caller import Caller
from inferline.accounts.keys import new_key
from inferline.accounts.tenants import Tenant
from inferline.batches.batch import Batch
from inferline.batches.line import CUSTOM_ID_CHARS_MAX, PREFIXES
from inferline.batches.validation import ERRORS_MAX
from inferline.gateway import prefixes
from inferline.memory.stores import memory_stores
from inferline.tasks.shard import INPUT_BYTES_MAX, input_key
from tests.support.batches import (
    CHAT,
    MODEL,
    ScriptedProvider,
    advanced,
    created,
    jsonl,
    know,
    line,
    parts_on,
)

BOM = b"\xef\xbb\xbf"
SECRET = "what nobody may read in an error"


def body(**changes: Any) -> dict[str, Any]:
    """Return a line's body with some changes."""
    fields: dict[str, Any] = line(1)["body"] | changes
    return fields


async def validated(data: bytes, *, stores: Any = None, **settings: Any) -> Batch:
    """Return a batch of this input after its validation."""
    stores = stores or memory_stores()
    await know(stores)
    parts = parts_on(stores, **settings)
    return await advanced(parts, await created(parts, data))


async def errors_of(data: bytes, **settings: Any) -> list[tuple[str, int | None, str | None]]:
    """Return the code, the line and the field of each error."""
    batch = await validated(data, **settings)
    assert batch.status == "failed"
    assert SECRET not in str(batch.errors)
    return [(error.code, error.line, error.param) for error in batch.errors]


async def inputs_of(stores: Any, batch: Batch) -> list[bytes]:
    """Return the lines of all shards, in order."""
    keys = [input_key(batch.slug, batch.id, number) for number in range(batch.shards)]
    return [each for key in keys for each in (await stores.objects.get(key)).split(b"\n")[:-1]]


def test_a_lines_address_has_the_gateways_prefixes() -> None:
    assert PREFIXES == prefixes.PREFIXES


async def test_lines_end_at_line_feeds_alone_and_blank_ones_are_left_out() -> None:
    stores = memory_stores()
    texts = [f'{{"x":"\u2028\u0085","custom_id":"{n}","method":"POST",' for n in range(3)]
    lines = [(text + json.dumps(line(1))[1:]).encode() for text in texts]
    lines = [each.replace(b'"custom_id": "line-1", "method": "POST", ', b"") for each in lines]
    data = BOM + lines[0] + b"\r\n\r\n \t\n" + lines[1] + b"\n\n" + lines[2]

    batch = await validated(data, stores=stores)

    assert (batch.status, batch.total) == ("in_progress", 3)
    assert lines == await inputs_of(stores, batch)


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
async def test_a_line_may_lie_in_several_segments(cut: int) -> None:
    stores = memory_stores()
    await know(stores)
    parts = parts_on(stores)
    data = b"\r\n".join(jsonl([line(n)]).strip() for n in range(5))
    batch = await created(parts, data, cut=cut)

    batch = await advanced(parts, batch)

    assert await inputs_of(stores, batch) == data.split(b"\r\n")


@pytest.mark.parametrize(
    ("broken", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b'"x"', "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        (b'{"a": NaN}', "invalid_json_line", None),
        (BOM + b"{}", "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        (b'{"a": 1, "a": 2}', "invalid_request", "a"),
        (line(2, custom_id=None), "missing_required_parameter", "custom_id"),
        (line(2, custom_id=""), "invalid_request", "custom_id"),
        (line(2, custom_id=7), "invalid_request", "custom_id"),
        (line(2, custom_id="x" * (CUSTOM_ID_CHARS_MAX + 1)), "invalid_request", "custom_id"),
        (line(1), "duplicate_custom_id", "custom_id"),
        (line(2, method=None), "missing_required_parameter", "method"),
        (line(2, method="GET"), "invalid_request", "method"),
        (line(2, url=None), "missing_required_parameter", "url"),
        (line(2, url="/v1/embeddings"), "mismatched_endpoint", "url"),
        (line(2, url=f"https://api.openai.com{CHAT}"), "mismatched_endpoint", "url"),
        (line(2, body=None), "missing_required_parameter", "body"),
        (line(2, body=[]), "missing_required_parameter", "body"),
        (line(2, body={}), "invalid_request", "body.model"),
        (line(2, body=body(model="other")), "mismatched_model", "body.model"),
        (line(2, body=body(stream=True)), "invalid_request", "body.stream"),
        (line(2, body=body(stream=1)), "invalid_request", "body.stream"),
        (line(2, body=body(n=10**6)), "limit_exceeded", "body.n"),
        (line(2, body=body(chat_template=SECRET)), "field_not_allowed", "body.chat_template"),
        (
            line(2, body=body(messages=[{"content": [{"image_url": {"url": "http://x.y/"}}]}])),
            "address_not_allowed",
            "body.messages[0].content[0].image_url.url",
        ),
    ],
)
async def test_what_is_wrong_with_a_line_is_said_with_its_number(
    broken: Any, code: str, param: str | None
) -> None:
    text = broken if isinstance(broken, bytes) else json.dumps(broken).encode()

    errors = await errors_of(jsonl([line(1)]) + b"\n" + text + b"\n" + jsonl([line(3)]))

    assert errors == [(code, 3, param)]


@pytest.mark.parametrize(
    "fine",
    [
        line(2, method="post"),
        line(2, url="/chat/completions"),
        line(2, url="/api/v1/chat/completions"),
        line(2, custom_id="x" * CUSTOM_ID_CHARS_MAX),
        line(2, note={"a": 1}),
        line(2, body=body(stream=False, seed=1)),
        line(2, body=body(stream=None)),
    ],
)
async def test_what_is_fine_passes(fine: dict[str, Any]) -> None:
    assert (await validated(jsonl([line(1), fine]))).status == "in_progress"


@pytest.mark.parametrize("data", [b"", b"\n\n \r\n", BOM, BOM + b"\n"])
async def test_a_file_without_lines_is_empty(data: bytes) -> None:
    assert await errors_of(data) == [("empty_file", None, None)]


async def test_no_more_errors_are_listed_than_anybody_reads() -> None:
    assert len(await errors_of(b"{\n" * 500)) == ERRORS_MAX


async def test_a_batch_has_a_limit_of_lines() -> None:
    errors = await errors_of(jsonl([line(n) for n in range(4)]), batch_lines_max=3)

    assert errors == [("too_many_tasks", None, None)]


async def test_a_batch_has_a_limit_of_bytes() -> None:
    errors = await errors_of(jsonl([line(1)]), batch_bytes_max=10)

    assert errors == [("file_too_large", None, None)]


async def test_a_line_has_a_limit_of_bytes_and_the_next_one_is_read() -> None:
    data = jsonl([line(1, note="x" * 5000), line(2), line(2)])

    errors = await errors_of(data, body_bytes_max=1000)

    assert errors == [("request_too_large", 1, None), ("duplicate_custom_id", 3, "custom_id")]


async def test_a_tenant_has_a_limit_of_lines_that_wait() -> None:
    stores = memory_stores()
    await know(stores)
    parts = parts_on(stores, tenant_batch_lines_max=250)
    other = Caller(tenant="other")
    for caller in (other, Caller(tenant="local")):
        batch = await created(parts, jsonl([line(n) for n in range(200)]), caller)
        assert (await advanced(parts, batch)).status == "in_progress"

    batch = await advanced(parts, await created(parts, jsonl([line(n) for n in range(51)])))

    assert [error.code for error in batch.errors] == ["token_limit_exceeded"]
    model = (await stores.registry.models())[MODEL]
    await ScriptedProvider(stores, model).run()
    for tenant, batch_id in await stores.batches.live_batches():
        row = await stores.batches.batch(tenant, batch_id)
        assert row
        await advanced(parts, row)
    batch = await advanced(parts, await created(parts, jsonl([line(n) for n in range(51)])))
    assert batch.status == "in_progress"


async def test_a_file_that_was_deleted_fails_the_batch() -> None:
    stores = memory_stores()
    parts = parts_on(stores)
    batch = await created(parts, jsonl([line(1)]))
    await stores.files.delete_file(batch.tenant, batch.input_file_id)

    batch = await advanced(parts, batch)

    assert [error.code for error in batch.errors] == ["file_not_found"]


async def test_a_model_that_does_not_exist_fails_the_batch() -> None:
    other = [line(n, body=body(model="none")) for n in range(2)]

    assert await errors_of(jsonl(other)) == [("model_not_found", 1, "body.model")]


async def test_a_key_uses_its_models_alone_and_may_be_revoked_meanwhile() -> None:
    stores = memory_stores()
    await know(stores)
    parts = parts_on(stores)
    statuses = []
    for models in (("other-*",), ("test-*",)):
        key, _ = new_key("client", "k", tenant="t", now_ms=1, models=models)
        await stores.keys.put_key(key)
        batch = await created(parts, jsonl([line(1)]), Caller(tenant="t", key_id=key.id))
        await stores.keys.revoke(key.id, 2)
        statuses.append((await advanced(parts, batch)).status)

    assert statuses == ["failed", "in_progress"]


async def test_a_reserved_tenants_lines_go_to_its_own_model() -> None:
    stores = memory_stores()
    model = await know(stores, f"{MODEL}#t")
    await stores.tenants.put_tenant(Tenant(id="t", providers=("p",)))
    key, _ = new_key("client", "k", tenant="t", now_ms=1)
    await stores.keys.put_key(key)
    parts = parts_on(stores)

    batch = await created(parts, jsonl([line(1)]), Caller(tenant="t", key_id=key.id))
    batch = await advanced(parts, batch)

    assert (batch.status, batch.model, batch.slug) == ("in_progress", MODEL, model.slug)


def spoken(number: int, prompt: str) -> dict[str, Any]:
    """Return a line with a system message."""
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": "x"}]
    return line(number, body=body(messages=messages))


@pytest.mark.parametrize("sort", ["prefix", "none"])
async def test_lines_with_the_same_prefix_are_run_one_after_the_other(sort: str) -> None:
    stores = memory_stores()
    lines = [spoken(n, f"prompt {n % 3}") for n in range(250)]

    batch = await validated(jsonl(lines), stores=stores, batch_sort=sort)

    rows = [json.loads(each) for each in await inputs_of(stores, batch)]
    prompts = [each["body"]["messages"][0]["content"] for each in rows]
    changes = sum(one != two for one, two in pairwise(prompts))
    assert changes == (2 if sort == "prefix" else 249)
    assert len({each["custom_id"] for each in rows}) == 250


async def test_shards_are_short_and_a_long_line_is_one_of_its_own() -> None:
    stores = memory_stores()
    long = [line(n, note="x" * (INPUT_BYTES_MAX // 2)) for n in range(3)]
    longer = line(3, note="x" * (INPUT_BYTES_MAX + 1))

    batch = await validated(jsonl([*long, longer]), stores=stores)

    assert (batch.total, batch.shards) == (4, 4)


async def test_fifty_thousand_short_lines_take_no_time() -> None:
    stores = memory_stores()
    data = b"".join(
        b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":{"model":"'
        b'test-model"}}\n' % number
        for number in range(50_000)
    )

    began = time.process_time()
    batch = await validated(data, stores=stores)
    seconds = time.process_time() - began

    assert (batch.status, batch.total, batch.shards) == ("in_progress", 50_000, 500)
    assert seconds < 15
