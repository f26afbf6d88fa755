"""The task routes: a task's state and result, the rest of its stream, and its cancel."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.fleet.registry import Model
from inferline.names import model_hash, slug
from inferline.tasks.task import CHUNK_BYTES_MAX, State, TaskRef
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway
from tests.support.seams import new_task

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
EVENTS = [b"data: %d\n\n" % n for n in range(6)]
DONE = b"data: [DONE]\n\n"


async def left_alone(gateway: Gateway, *, stream: bool) -> Taken:
    """A task that runs and whose gateway died: its reader lease is there, its reader is not."""
    submitter, store = gateway.app.submitter, gateway.store
    payload: Any = type("P", (), {"model": MODEL, "tier": "default"})()
    task_id = f"req_{'a' * 31}{int(stream)}"
    submission = await submitter.prepare(task_id, "/v1/chat/completions", payload, b"{}")
    # As another gateway would have, which is gone by now.
    task = replace(submission.task, reader="gone-1", reader_ms=store.now_ms() - 1)
    await submitter.submit(replace(submission, task=task))
    return await gateway.take()


def told(response: httpx.Response) -> dict[str, Any]:
    assert 200 == response.status_code, response.text
    found: dict[str, Any] = response.json()
    return found


@asynccontextmanager
async def stream_of(client: httpx.AsyncClient, url: str) -> AsyncIterator[httpx.Response]:
    async with client.stream("GET", url) as response:
        yield response


async def test_a_task_is_told_of_from_its_submit_to_its_end(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    url = f"/v1/tasks/{taken.task.ref.id}"

    running = told(await client.get(url))
    await taken.finish(tail=b'{"answer": [1, "\xc3\xa9"]}', usage={"total_tokens": 3})
    task_id = (await asked).headers["x-request-id"]
    done = told(await client.get(url))

    assert task_id == running["id"] == done["id"] == taken.task.ref.id
    assert ("RUNNING", None, None) == (running["state"], running["result"], running["status"])
    assert ("task", MODEL, "default", 1, "p1") == tuple(
        running[name] for name in ("object", "model", "tier", "attempt", "provider")
    )
    assert ("DONE", 200, {"answer": [1, "é"]}) == (done["state"], done["status"], done["result"])
    assert {"total_tokens": 3} == done["usage"]
    assert done["created_ms"] < done["deadline_ms"]
    assert done["queue_ms"] >= 0


async def test_a_large_result_is_told_whole(gateway: Gateway, client: httpx.AsyncClient) -> None:
    taken = await left_alone(gateway, stream=False)
    text = "x" * (40 * CHUNK_BYTES_MAX)
    body = json.dumps({"text": text}).encode()
    for start in range(0, len(body), CHUNK_BYTES_MAX):
        await taken.write(body[start : start + CHUNK_BYTES_MAX])
    await taken.finish(content_type="application/json")

    assert {"text": text} == told(await client.get(f"/v1/tasks/{taken.task.ref.id}"))["result"]


async def test_a_failed_task_tells_its_error(gateway: Gateway, client: httpx.AsyncClient) -> None:
    taken = await left_alone(gateway, stream=False)
    error = {"message": "broken", "type": "server_error", "param": None, "code": "x"}
    await taken.finish(error={**error, "status": 502})

    found = told(await client.get(f"/v1/tasks/{taken.task.ref.id}"))

    assert ("FAILED", {**error, "type": "server_error"}) == (found["state"], found["error"])
    assert found["result"] is None


@pytest.mark.parametrize("after", range(8))
async def test_a_stream_goes_on_after_any_of_its_events(
    gateway: Gateway, client: httpx.AsyncClient, after: int
) -> None:
    taken = await left_alone(gateway, stream=True)
    for start in (0, 2, 4):
        await taken.write(b"".join(EVENTS[start : start + 2]))
    await taken.finish(tail=DONE)

    url = f"/v1/tasks/{taken.task.ref.id}/stream"
    response = await client.get(url, params={"after": after})

    assert b"".join([*EVENTS, DONE][after:]) == response.content
    assert "text/event-stream" == response.headers["content-type"]
    assert taken.task.ref.id == response.headers["x-request-id"]


async def test_a_stream_under_way_goes_on_as_it_is_written(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await left_alone(gateway, stream=True)
    await taken.write(EVENTS[0] + EVENTS[1])
    got = []

    async with stream_of(client, f"/v1/tasks/{taken.task.ref.id}/stream?after=1") as response:
        async for piece in response.aiter_raw():
            got.append(piece)
            if piece == EVENTS[1]:
                await taken.write(EVENTS[2])
            elif piece == EVENTS[2]:
                await taken.finish(tail=DONE)

    assert [EVENTS[1], EVENTS[2], DONE] == got


async def test_who_goes_on_with_a_stream_is_its_reader_and_its_leaving_ends_it(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await left_alone(gateway, stream=True)
    await taken.write(EVENTS[0])

    async with stream_of(client, f"/v1/tasks/{taken.task.ref.id}/stream") as response:
        await anext(response.aiter_raw())
        row = gateway.store.task(taken.task.ref)
        assert row is not None
        assert row.reader_ms > gateway.store.now_ms()

    await ended(gateway, taken, State.CANCELLED)


async def test_the_first_readers_leaving_ends_nothing_for_the_second(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def begin() -> Taken:
        taken = await gateway.take()
        await taken.write(EVENTS[0])
        return taken

    begun = asyncio.create_task(begin())
    async with client.stream("POST", PATH, json={**ASKED, "stream": True}):
        taken = await begun
        second = client.stream("GET", f"/v1/tasks/{taken.task.ref.id}/stream")
        response = await second.__aenter__()

    await asyncio.sleep(0.2)
    await taken.finish(tail=DONE)
    assert EVENTS[0] + DONE == await response.aread()
    await second.__aexit__(None, None, None)


async def test_the_second_readers_leaving_ends_nothing_for_the_first(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
    taken = await gateway.take()
    await taken.write(EVENTS[0])

    async with stream_of(client, f"/v1/tasks/{taken.task.ref.id}/stream") as second:
        await anext(second.aiter_raw())

    await asyncio.sleep(0.2)
    await taken.finish(tail=DONE)
    assert EVENTS[0] + DONE == (await asked).content


async def ended(gateway: Gateway, taken: Taken, state: State) -> None:
    for _ in range(6000):
        row = gateway.store.task(taken.task.ref)
        if row is not None and row.state is state:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{row} never became {state}")


async def test_an_answer_that_is_no_stream_comes_whole_there_too(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await left_alone(gateway, stream=True)
    await taken.finish(status=400, tail=b'{"error": {"message": "no"}}')

    response = await client.get(f"/v1/tasks/{taken.task.ref.id}/stream?after=3")

    assert (400, b'{"error": {"message": "no"}}') == (response.status_code, response.content)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_task_is_cancelled_by_route_and_its_client_is_told(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    taken = await gateway.take()
    url = f"/v1/tasks/{taken.task.ref.id}/cancel"

    cancelled, again = told(await client.post(url)), told(await client.post(url))

    response = await asked
    assert ("CANCELLED", "cancelled") == (cancelled["state"], cancelled["error"]["code"])
    assert cancelled == again
    assert (499, "cancelled") == (response.status_code, response.json()["error"]["code"])
    assert "false" == response.headers["x-should-retry"]


async def test_what_has_ended_stays_as_it_ended(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    taken = await left_alone(gateway, stream=False)
    await taken.finish(tail=b'"answer"')

    found = told(await client.post(f"/v1/tasks/{taken.task.ref.id}/cancel"))

    assert ("DONE", "answer") == (found["state"], found["result"])


@pytest.mark.parametrize(
    "task_id",
    [
        *("req_" + "0" * length for length in (31, 32, 33, 40, 41)),
        *("req_x", "..%2fA001", "%00", "a%23STATE"),
    ],
)
async def test_a_task_that_is_not_there_is_a_404(
    gateway: Gateway, client: httpx.AsyncClient, task_id: str
) -> None:
    url = f"/v1/tasks/{task_id}"

    for response in (
        await client.get(url),
        await client.get(f"{url}/stream"),
        await client.post(f"{url}/cancel"),
    ):
        assert 404 == response.status_code


@pytest.mark.parametrize("after", ["-1", "x", "1e3", "9" * 30])
async def test_an_after_that_is_no_count_is_a_400(
    gateway: Gateway, client: httpx.AsyncClient, after: str
) -> None:
    taken = await left_alone(gateway, stream=True)

    response = await client.get(f"/v1/tasks/{taken.task.ref.id}/stream", params={"after": after})

    assert (400, "invalid_request") == (response.status_code, response.json()["error"]["code"])


async def test_another_tenants_task_is_not_there() -> None:
    async with running_gateway(access="keys") as gateway:
        await gateway.know()
        headers = []
        for tenant in ("acme", "other"):
            key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
            await gateway.keys.put_key(key)
            headers.append({"authorization": f"Bearer {text}"})
        mine, others = headers
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=mine))
            taken = await gateway.take()
            url = f"/v1/tasks/{taken.task.ref.id}"

            theirs = [
                await client.get(url, headers=others),
                await client.get(f"{url}/stream", headers=others),
                await client.post(f"{url}/cancel", headers=others),
            ]
            running = told(await client.get(url, headers=mine))
            await taken.finish(tail=b"{}")
            await asked

    assert [404] * 3 == [response.status_code for response in theirs]
    assert {"task_not_found"} == {response.json()["error"]["code"] for response in theirs}
    assert "RUNNING" == running["state"]


async def among(gateway: Gateway, models: int) -> list[int]:
    """Have so many models more; gives how many tasks each read of the store is about."""
    for number in range(models):
        await gateway.know(f"m{number}")
    reads: list[int] = []
    read = gateway.store.read

    async def counted(wanted: list[Any], **how: Any) -> Any:
        reads.append(len(wanted))
        return await read(wanted, **how)

    gateway.store.read = counted  # type: ignore[method-assign, assignment]
    return reads


async def test_a_task_is_looked_for_in_its_own_models_name_alone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    reads = await among(gateway, 12)
    taken = await left_alone(gateway, stream=False)

    told(await client.get(f"/v1/tasks/{taken.task.ref.id}"))

    assert [1] == reads


async def test_a_task_of_an_earlier_release_is_looked_for_in_every_models_name_at_once(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    reads = await among(gateway, 12)
    old = TaskRef(slug(MODEL), "req_" + "7" * 32)
    task = replace(new_task(gateway.store, model=MODEL), ref=old, tenant="local")
    await gateway.store.submit(task)

    found = told(await client.get(f"/v1/tasks/{old.id}"))

    assert ([13], old.id) == (reads, found["id"])


async def test_the_task_of_a_model_that_has_just_come_is_found(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.get("/v1/models")
    await gateway.registry.put_models([Model(id="new", queues=await gateway.queue.make("new"))])
    ref = TaskRef(slug("new"), "req_" + "7" * 32 + model_hash(slug("new")))
    task = replace(new_task(gateway.store, model="new"), ref=ref, tenant="local")
    await gateway.store.submit(task)
    await asyncio.sleep(0.1)  # The list is old then.

    assert ref.id == told(await client.get(f"/v1/tasks/{ref.id}"))["id"]


async def test_what_stands_for_the_model_is_no_part_of_what_makes_an_id_unguessable(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    ids = []
    for _ in range(2):
        asked = asyncio.create_task(client.post(PATH, json=ASKED))
        await (await gateway.take()).finish(tail=b"{}")
        ids.append((await asked).headers["x-request-id"])

    one, other = ids
    assert all(re.fullmatch(r"req_[0-9a-f]{40}", found) for found in ids)
    assert (one[:36] != other[:36], model_hash(slug(MODEL))) == (one[36:] == other[36:], one[36:])
