"""A request that was sent before finds the task that is there instead of adding one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.errors import Unavailable
from inferline.tasks.task import State, Task
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
RETRY = {"x-stainless-retry-count": "1"}
KEYED = {"idempotency-key": "a-key"}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running_gateway(reader_seconds=0.6) as found:
        await found.know()
        yield found


def rows(gateway: Gateway) -> list[Task]:
    return list(gateway.store._tasks.values())


def orphaned(gateway: Gateway, task: Task, seconds: float = -0.001) -> None:
    """The gateway that read ``task`` is another one and gone, its lease over in ``seconds``."""
    row = gateway.store.task(task.ref)
    assert row is not None
    until = gateway.store.now_ms() + round(seconds * 1000)
    gateway.store._put(row, reader="gone-1", reader_ms=until)


async def adopted(gateway: Gateway, client: httpx.AsyncClient, **body: Any) -> Taken:
    """A task that its gateway, another one, has left alone while it runs."""
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, **body}))
    taken = await gateway.take()
    orphaned(gateway, taken.task, 60)
    asked.cancel()
    await asyncio.sleep(0.1)  # Whose client has gone cancels only what it reads itself.
    orphaned(gateway, taken.task)
    return taken


@pytest.mark.parametrize("stream", [False, True])
async def test_a_retry_adopts_the_task_that_lost_its_reader(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    taken = await adopted(gateway, client, stream=stream)
    if stream:
        await taken.write(b"data: 1\n\n")
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}, headers=RETRY))
    await until_read(gateway, taken)

    await taken.finish(tail=b"data: [DONE]\n\n" if stream else b"{}")
    response = await asked

    assert 1 == len(rows(gateway))
    assert taken.task.ref.id == response.headers["x-request-id"]
    assert (b"data: 1\n\ndata: [DONE]\n\n" if stream else b"{}") == response.content


async def until_read(gateway: Gateway, taken: Taken, by_other_than: str = "") -> None:
    for _ in range(6000):
        row = gateway.store.task(taken.task.ref)
        is_read = row is not None and row.reader_ms > gateway.store.now_ms()
        if row is not None and is_read and row.reader != by_other_than:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody reads it")


async def test_of_many_retries_one_adopts(gateway: Gateway, client: httpx.AsyncClient) -> None:
    taken = await adopted(gateway, client)
    asked = [asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY)) for _ in range(5)]
    others = [await gateway.take() for _ in range(4)]

    for one in (taken, *others):
        await one.finish(tail=b"{}")

    ids = [(await one).headers["x-request-id"] for one in asked]
    assert 5 == len(set(ids))
    assert taken.task.ref.id in ids


async def test_a_retry_waits_until_the_reader_is_known_to_be_gone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await adopted(gateway, client)
    orphaned(gateway, taken.task, 0.5)
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await asyncio.sleep(0.2)
    await taken.finish(tail=b'"first"')

    response = await asked

    assert b'"first"' == response.content
    assert 1 == len(rows(gateway))


async def test_a_retry_whose_client_leaves_while_it_waits_adopts_nothing(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await adopted(gateway, client)
    orphaned(gateway, taken.task, 0.6)
    first = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await asyncio.sleep(0.1)
    first.cancel()

    second = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await until_read(gateway, taken, by_other_than="gone-1")
    await taken.finish(tail=b'"first"')

    assert b'"first"' == (await second).content
    assert 1 == len(rows(gateway))


async def test_a_reader_takes_its_lease_back_from_a_guest_that_is_gone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
    taken = await gateway.take()
    await taken.write(b"data: 1\n\n")
    first = taken.task.reader
    async with client.stream("GET", f"/v1/tasks/{taken.task.ref.id}/stream") as guest:
        await anext(guest.aiter_raw())
        await until_read(gateway, taken, by_other_than=first)
    for _ in range(6000):
        row = gateway.store.task(taken.task.ref)
        if row is not None and row.reader == first:
            break
        await asyncio.sleep(0.01)

    assert row is not None
    assert (first, State.RUNNING) == (row.reader, row.state)
    await taken.finish(tail=b"data: [DONE]\n\n")
    assert 200 == (await asked).status_code


async def test_a_retry_adds_a_task_when_the_other_has_a_reader(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await adopted(gateway, client)
    orphaned(gateway, taken.task, 1.0)
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await asyncio.sleep(0.3)
    orphaned(gateway, taken.task, 60.0)  # It has shown itself.

    second = await gateway.take()
    await second.finish(tail=b'"second"')

    assert b'"second"' == (await asked).content


async def test_a_retry_does_not_wait_for_what_is_read_right_here(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    first = asyncio.create_task(client.post(PATH, json=ASKED))
    one = await gateway.take()
    second = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    other = await gateway.take()
    await one.finish(tail=b"1")
    await other.finish(tail=b"2")

    assert [b"1", b"2"] == [(await first).content, (await second).content]


async def test_many_alike_are_not_waited_for(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for _ in range(5):
        orphaned(gateway, (await adopted(gateway, client)).task, 600)

    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code


@pytest.mark.parametrize(
    "other",
    [{"path": "/v1/completions"}, {"headers": {}}, {"json": {**ASKED, "seed": 1}}],
    ids=["path", "no retry", "body"],
)
async def test_another_request_adopts_nothing(
    gateway: Gateway, client: httpx.AsyncClient, other: dict[str, Any]
) -> None:
    await adopted(gateway, client)
    sent = {"json": ASKED, "headers": RETRY} | other
    asked = asyncio.create_task(client.post(sent.pop("path", PATH), **sent))

    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code
    assert 2 == len(rows(gateway))


async def test_an_adopted_task_that_still_waits_gets_its_message_again(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    payload: Any = type("P", (), {"model": MODEL, "tier": "default"})()
    sent = httpx.Request("POST", gateway.url, json=ASKED).content
    # Its gateway died between the row and the message.
    submission = await gateway.app.submitter.prepare("req_" + "0" * 32, PATH, payload, sent)
    task = submission.task
    await gateway.store.submit(replace(task, reader="gone-1", reader_ms=1))

    asked = asyncio.create_task(client.post(PATH, content=sent, headers=RETRY))
    taken = await gateway.take()
    await taken.finish(tail=b"{}")

    assert task.ref == taken.task.ref
    assert 200 == (await asked).status_code


async def test_a_retry_that_can_not_look_is_served_like_any_other(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def refuse(*wanted: object) -> Any:
        raise Unavailable

    gateway.store.live = refuse  # type: ignore[method-assign]

    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code


async def test_only_a_retry_looks_for_what_is_there(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def refuse(*wanted: object) -> Any:
        raise Unavailable

    gateway.store.live = gateway.store.binding = refuse  # type: ignore[method-assign]

    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code


async def test_an_answer_that_comes_soon_costs_no_write_for_its_reader(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    attended = []
    attend = gateway.store.renew_reader_lease

    async def counted(*given: Any) -> bool:
        attended.append(given)
        return await attend(*given)

    gateway.store.renew_reader_lease = counted  # type: ignore[method-assign]
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    await taken.finish(tail=b"{}")
    await asked
    assert [] == attended

    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    await asyncio.sleep(1.0)
    await taken.finish(tail=b"{}")
    await asked

    # Each 0.3 s, and not after its end.
    assert 2 <= len(attended) <= 3
    await asyncio.sleep(0.5)
    assert len(attended) <= 3


async def test_a_key_stands_for_one_task_however_many_send_it_at_once(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = [asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED)) for _ in range(6)]
    taken = await gateway.take()
    await asyncio.sleep(0.2)
    await taken.finish(tail=b'"one"')

    responses = await asyncio.gather(*asked)

    assert {b'"one"'} == {response.content for response in responses}
    assert {taken.task.ref.id} == {response.headers["x-request-id"] for response in responses}
    assert 1 == len(rows(gateway))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_sent_again_later_gets_the_same_answer_from_its_beginning(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    body = {**ASKED, "stream": stream}
    asked = asyncio.create_task(client.post(PATH, json=body, headers=KEYED))
    taken = await gateway.take()
    if stream:
        await taken.write(b"data: 1\n\n")
    await taken.finish(tail=b"data: [DONE]\n\n" if stream else b"{}")
    first = await asked

    again = await client.post(PATH, json=body, headers=KEYED)

    assert (first.content, first.headers["x-request-id"]) == (
        again.content,
        again.headers["x-request-id"],
    )
    [row] = rows(gateway)
    assert row.created_ms // 1000 + 24 * 3600 == row.ttl


@pytest.mark.parametrize(("setting", "seconds"), [(7200, 7200), (60, 600 + 3600)])
async def test_how_long_a_key_is_remembered_is_a_setting_but_no_shorter_than_a_tasks_time(
    setting: int, seconds: int
) -> None:
    async with (
        running_gateway(idempotency_seconds_kept=setting) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
        await (await gateway.take()).finish(tail=b"{}")
        await asked

        [row] = rows(gateway)
        assert row.created_ms // 1000 + seconds == row.ttl


async def test_a_key_with_another_request_is_refused_and_not_retried(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
    await (await gateway.take()).finish(tail=b"{}")
    await asked

    others = [
        await client.post(PATH, json={**ASKED, "seed": 1}, headers=KEYED),
        await client.post("/v1/completions", json=ASKED, headers=KEYED),
    ]

    assert [400, 400] == [response.status_code for response in others]
    assert {"idempotency_key_reused"} == {r.json()["error"]["code"] for r in others}
    assert 1 == len(rows(gateway))


@pytest.mark.parametrize("outcome", [{"error": {"message": "no", "status": 502}}, {"status": 503}])
async def test_a_key_whose_task_came_to_nothing_stands_for_a_new_one(
    gateway: Gateway, client: httpx.AsyncClient, outcome: dict[str, Any]
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
    await (await gateway.take()).finish(tail=b"{}", **outcome)
    await asked

    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
    await (await gateway.take()).finish(tail=b'"better"')

    assert b'"better"' == (await asked).content


async def test_a_key_whose_client_left_stands_for_a_new_task(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
    taken = await gateway.take()
    asked.cancel()
    for _ in range(6000):
        row = gateway.store.task(taken.task.ref)
        if row is not None and row.state is State.CANCELLED:
            break
        await asyncio.sleep(0.01)

    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=KEYED))
    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code


async def test_a_key_is_its_tenants_alone() -> None:
    async with running_gateway(access="keys") as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            for number, tenant in enumerate(("acme", "other")):
                key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
                await gateway.keys.put_key(key)
                headers = {**KEYED, "authorization": f"Bearer {text}"}
                asked = asyncio.create_task(
                    client.post(PATH, json={**ASKED, "seed": number}, headers=headers)
                )
                await (await gateway.take()).finish(tail=b"%d" % number)
                assert b"%d" % number == (await asked).content


async def test_a_bad_key_is_a_400(gateway: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json=ASKED, headers={"idempotency-key": "a b"})

    assert (400, "invalid_request") == (response.status_code, response.json()["error"]["code"])
    assert [] == rows(gateway)


@pytest.mark.parametrize("name", ["x-stainless-timeout", "x-stainless-read-timeout"])
async def test_a_clients_timeout_is_the_tasks_deadline(
    gateway: Gateway, client: httpx.AsyncClient, name: str
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers={name: "7"}))
    taken = await gateway.take()
    await taken.finish(tail=b"{}")
    await asked

    assert 8000 == taken.task.deadline_ms - taken.task.created_ms


async def test_a_clients_timeout_is_no_more_than_the_settings_allow() -> None:
    async with running_gateway(request_seconds_max=5) as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            headers = {"x-stainless-timeout": "3600"}
            asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=headers))
            taken = await gateway.take()
            await taken.finish(tail=b"{}")
            await asked

    assert 5000 == taken.task.deadline_ms - taken.task.created_ms


async def test_a_stream_is_not_cut_at_its_clients_timeout_once_it_has_begun(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    headers = {"x-stainless-read-timeout": "0.1"}
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}, headers=headers))
    taken = await gateway.take()
    await taken.write(b"data: 1\n\n")
    await asyncio.sleep(1.5)
    await taken.finish(tail=b"data: [DONE]\n\n")

    assert b"data: 1\n\ndata: [DONE]\n\n" == (await asked).content


async def test_work_whose_client_has_given_up_is_not_started(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    headers = {"x-stainless-read-timeout": "0.1"}
    body = {**ASKED, "stream": True}

    response = await client.post(PATH, json=body, headers=headers)

    assert (504, "deadline_exceeded") == (response.status_code, response.json()["error"]["code"])
    assert [State.CANCELLED] == [row.state for row in rows(gateway)]
