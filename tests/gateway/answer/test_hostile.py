"""
A provider that writes anything into the tasks table with its lent credentials: its client gets a
clean error, other clients their answers, and the provider a strike.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.task_rows import STATE_KEY, chunk_key
from inferline.fleet.registry import Model, ProviderRecord
from inferline.names import slug
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task
from tests.support.emulators import running
from tests.support.gateway import MODEL, Gateway, running_gateway
from tests.support.seams import Seams, opened

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HOSTILE, HONEST = "hostile", "honest"
ANSWER = b'{"answer": 1}'
SECONDS = 20.0
FLUSH_SECONDS = 0.1

Item = dict[str, Any]


@dataclass(slots=True)
class Scene:
    """A gateway on an emulator's tables, and two providers of its model."""

    gateway: Gateway
    client: httpx.AsyncClient
    seams: Seams

    async def prepare(self) -> None:
        await self.seams.registry.put_models(
            [Model(id=MODEL, queues=await self.gateway.queue.make(MODEL))]
        )
        for name in (HOSTILE, HONEST):
            await self.seams.registry.put_provider(provider(name))
        await self.gateway.counted()

    async def attacked(self, attack: Attack, *, stream: bool) -> httpx.Response:
        """Attack a client's task while another is answered, and return the client's response."""
        asked = {"model": MODEL, "stream": stream}
        victim = asyncio.create_task(self.client.post(CHAT, json=asked))
        other = asyncio.create_task(self.client.post(TEXT, json=asked))
        task, honest = await self.claimed(CHAT, HOSTILE), await self.claimed(TEXT, HONEST)

        await attack(self, task)
        response = await asyncio.wait_for(victim, SECONDS)
        done = AttemptOutcome(status=200, content_type="application/json", tail=ANSWER)
        await self.seams.store.finish(honest, done)

        assert ANSWER == (await asyncio.wait_for(other, SECONDS)).content.strip()
        return response

    async def claimed(self, path: str, owner: str) -> Task:
        store = self.seams.store
        for _ in range(500):
            for ref, _deadline in await store.live(slug(MODEL), 10):
                claim = await store.claim(ref, owner, 30.0) if await self.is_at(ref, path) else None
                if isinstance(claim, Claimed):
                    return claim.task
            await asyncio.sleep(0.02)
        pytest.fail("no task came")

    async def is_at(self, ref: Any, path: str) -> bool:
        key = to_item({"pk": ref.pk, "sk": STATE_KEY})
        return str((await self.call("GetItem", Key=key))["Item"]["path"]["S"]) == path

    async def change(self, task: Task, **attributes: Item) -> None:
        """Set attributes of a task's row, marshalled as they are."""
        await self.call(
            "UpdateItem",
            Key=to_item({"pk": task.ref.pk, "sk": STATE_KEY}),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    async def end(self, task: Task, **attributes: Item) -> None:
        """Make a task DONE, with some attributes changed."""
        plain = {"state": "DONE", "status": 200, "content_type": "application/json", "tail": b"{}"}
        await self.change(task, **{**to_item({**plain, "token": "t"}), **attributes})

    async def put(self, task: Task, seq: int, **attributes: Item) -> None:
        """Write a chunk, with some attributes changed."""
        head = [200, "text/event-stream", HOSTILE, 1]
        row = {"pk": task.ref.pk, "sk": chunk_key(task.attempt, seq), "ttl": task.ttl, "head": head}
        await self.call("PutItem", Item={**to_item({**row, "data": b"data: {}\n\n"}), **attributes})

    async def call(self, operation: str, **request: Any) -> Any:
        assert self.seams.client is not None
        parameters = {"TableName": self.seams.store.table, **request}
        return await self.seams.client.call("dynamodb", operation, parameters)

    async def strikes(self, name: str = HOSTILE) -> int:
        """Return the number of a provider's strikes."""
        # Counting a strike returns their number, this one included.
        return await self.seams.registry.strike(name, MODEL, "row", 10**6) - 1


Attack = Callable[[Scene, Task], Awaitable[None]]


def provider(name: str, **fields: Any) -> ProviderRecord:
    given = {"models": (MODEL,), "slots": 1, "running": 0, "healthy": True, "version": "1"}
    return ProviderRecord(id=name, **given | fields)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with running("ministack") as url:
        yield url


@pytest.fixture
async def scene(emulator: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr("inferline.gateway.answer.contract.MISSING_SECONDS", 0.3)
    async with (
        opened(emulator) as seams,
        running_gateway(
            store=seams.store,
            registry=seams.registry,
            answer_bytes_max=100_000,
            flush_seconds=FLUSH_SECONDS,
            no_provider_seconds=60.0,
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=SECONDS) as client,
    ):
        opened_scene = Scene(gateway, client, seams)
        await opened_scene.prepare()
        yield opened_scene


def changing(**attributes: Item) -> Attack:
    async def attack(scene: Scene, task: Task) -> None:
        await scene.change(task, **{"token": {"S": "t"}, **attributes})

    return attack


def ending(**attributes: Item) -> Attack:
    async def attack(scene: Scene, task: Task) -> None:
        await scene.end(task, **attributes)

    return attack


def writing(**attributes: Item) -> Attack:
    async def attack(scene: Scene, task: Task) -> None:
        await scene.put(task, 0, **attributes)

    return attack


async def crumbling(scene: Scene, task: Task) -> None:
    for seq in range(400):
        await scene.put(task, seq, data={"B": "Og=="})


async def pouring(scene: Scene, task: Task) -> None:
    for seq in range(3):
        await scene.put(task, seq, **to_item({"data": b":" * 60_000 + b"\n\n"}))


async def moving_the_deadline(scene: Scene, task: Task) -> None:
    await scene.change(task, **to_item({"deadline_ms": task.deadline_ms + 10**9, "token": "t"}))


def head(*values: Any) -> Item:
    return to_item({"head": list(values)})["head"]


BOMB = to_item({"b": zlib.compress(bytes(10**7), wbits=-15)})["b"]
#: Each attack, and the breach that it is.
ATTACKS: dict[str, tuple[Attack, str]] = {
    "a number that is a text": (changing(attempt={"S": "x"}), "row"),
    "a number that is a fraction": (changing(chunks={"N": "1.5"}), "row"),
    "a number that is huge": (changing(lease_ms={"N": "9" * 30}), "row"),
    "a state that there is not": (changing(state={"S": "SOLD"}), "row"),
    "a type that we never write": (changing(usage={"SS": ["x"]}), "row"),
    "an error that is a text": (changing(error={"S": "x"}), "row"),
    "another tenant": (changing(tenant={"S": "mallory"}), "row"),
    "a later deadline": (moving_the_deadline, "row"),
    "an attempt beyond the limit": (changing(attempt={"N": "9"}), "attempt"),
    "fewer chunks than none": (ending(chunks={"N": "-1"}), "row"),
    "more chunks than time has": (ending(chunks={"N": "999999"}), "pieces"),
    "chunks that never come": (ending(chunks={"N": "3"}), "missing"),
    "a tail that is a bomb": (ending(packed_tail=BOMB), "row"),
    "a status that is none": (ending(status={"N": "99"}), "head"),
    "a page": (ending(content_type={"S": "text/html"}), "head"),
    "a type with a header behind it": (
        ending(content_type={"S": "application/json\r\nset-cookie: a=b"}),
        "head",
    ),
    "a chunk that is a text": (writing(data={"S": "x"}), "chunk"),
    "a chunk that is too large": (writing(**to_item({"data": b":" * 100_000})), "chunk"),
    "a chunk that is a bomb": (writing(packed=BOMB), "chunk"),
    "a chunk without an end": (writing(ttl={"S": "never"}), "chunk"),
    "a head that is none": (writing(head=head(200)), "chunk"),
    "a chunk of a page": (writing(head=head(200, "text/html", HOSTILE, 1)), "head"),
    "a name with a header behind it": (
        writing(head=head(200, "text/event-stream", "a\r\nset-cookie: a=b", 1)),
        "head",
    ),
    "a wait of no length": (writing(head=head(200, "text/event-stream", HOSTILE, -1)), "head"),
    "a chunk that goes on with a later one": (
        writing(after=to_item({"after": [[7, 1]]})["after"]),
        "head",
    ),
    "crumbs": (crumbling, "pieces"),
    "a flood": (pouring, "size"),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_breach_is_a_clean_error_for_its_own_client_and_a_strike(
    scene: Scene, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    attack, breach = ATTACKS[name]

    response = await scene.attacked(attack, stream=True)

    if response.status_code == 200:  # Its first bytes were out by then.
        event = response.content.splitlines()[-2].removeprefix(b"data: ")
        assert "provider_fault" == json.loads(event)["error"]["code"]
    else:
        assert (502, "provider_fault") == (response.status_code, code_of(response))
    assert "set-cookie" not in response.headers
    assert {"text/event-stream", "application/json"} >= {response.headers["content-type"]}
    assert 1 == await scene.strikes()
    assert 0 == await scene.strikes(HONEST)
    records = [record for record in caplog.records if hasattr(record, "breach")]
    assert [(HOSTILE, breach)] == [(record.provider, record.breach) for record in records]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def code_of(response: httpx.Response) -> Any:
    return response.json()["error"]["code"]


async def test_an_owner_with_a_line_break_reaches_no_header(scene: Scene) -> None:
    response = await scene.attacked(ending(owner={"S": "a\r\nset-cookie: a=b"}), stream=False)

    assert (502, "provider_fault") == (response.status_code, code_of(response))
    assert "set-cookie" not in response.headers


async def test_token_counts_that_cannot_be_are_not_believed_and_hold_up_no_answer(
    scene: Scene,
) -> None:
    usage = {"prompt_tokens": -5, "completion_tokens": 10**15, "secret": "x", "total_tokens": 7}

    response = await scene.attacked(ending(**to_item({"usage": usage})), stream=False)

    assert (200, b"{}") == (response.status_code, response.content)
    shown = await scene.client.get(f"/v1/tasks/{response.headers['x-request-id']}")
    assert {"total_tokens": 7} == shown.json()["usage"]
    [entry] = [entry for entry in scene.gateway.entries if entry.provider == HOSTILE]
    assert (0, 0) == (entry.input_tokens, entry.output_tokens)
    assert 1 == await scene.strikes()


async def test_a_failure_is_told_in_words_only(scene: Scene) -> None:
    error = {"message": 5, "code": "a\r\nb", "status": 200, "type": ["x"]}
    failing = to_item({"state": "FAILED", "error": error, "token": "t"})

    response = await scene.attacked(changing(**failing), stream=False)

    assert (502, "backend_failed") == (response.status_code, code_of(response))


async def test_bytes_that_are_no_text_go_through_as_they_are(scene: Scene) -> None:
    async def attack(scene: Scene, task: Task) -> None:
        await scene.put(task, 0, **to_item({"data": b"data: \xff\xfe\n\n"}))
        ended = {"content_type": "text/event-stream", "chunks": 1, "tail": b"data: [DONE]\n\n"}
        await scene.end(task, **to_item(ended))

    response = await scene.attacked(attack, stream=True)

    assert b"data: \xff\xfe\n\ndata: [DONE]\n\n" == response.content


async def test_what_is_written_for_another_attempt_is_never_read(scene: Scene) -> None:
    async def attack(scene: Scene, task: Task) -> None:
        other = to_item({"sk": chunk_key(task.attempt + 1, 0), "data": b"data: false\n\n"})
        await scene.put(task, 0, **other)
        await scene.end(task)

    response = await scene.attacked(attack, stream=False)

    assert (200, b"{}") == (response.status_code, response.content)


async def test_a_row_that_is_none_is_no_task_to_ask_for(scene: Scene) -> None:
    response = await scene.attacked(changing(model={"N": "5"}), stream=False)

    shown = await scene.client.get(f"/v1/tasks/{response.headers['x-request-id']}")

    assert (404, "task_not_found") == (shown.status_code, code_of(shown))


async def test_a_provider_is_refused_after_so_many_breaches(scene: Scene) -> None:
    for _ in range(scene.gateway.parts.settings.strikes_max):
        await scene.attacked(ending(status={"N": "99"}), stream=False)

    enrolment = {"id": HOSTILE, "version": "1", "slots": 1, "models": [{"id": MODEL}]}
    refused = await scene.client.post("/v1/providers", json=enrolment)
    taken = await scene.client.post("/v1/providers", json={**enrolment, "id": HONEST})

    assert (403, "provider_quarantined") == (refused.status_code, code_of(refused))
    assert 200 == taken.status_code


async def test_an_answer_names_the_model_that_was_asked_for_if_an_operator_wants_it() -> None:
    async with (
        running_gateway(response_model="requested") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=SECONDS) as client,
    ):
        await gateway.know()
        asked = asyncio.create_task(client.post(CHAT, json={"model": MODEL}))
        await (await gateway.take()).finish(tail=b'{"model": "better", "x": 1}')
        streaming = asyncio.create_task(client.post(CHAT, json={"model": MODEL, "stream": True}))
        taken = await gateway.take()
        await taken.write(b'data: {"model":"better","x":1}\n\ndata: {"mod')
        await taken.write(b'el":"better","x":2}\n\n')
        await taken.finish(tail=b"data: [DONE]\n\n")

        whole, stream = await asked, await streaming
        shown = await client.get(f"/v1/tasks/{whole.headers['x-request-id']}")

    assert {"model": MODEL, "x": 1} == whole.json() == shown.json()["result"]
    named = [f'data: {{"model":"{MODEL}","x":{n}}}' for n in (1, 2)]
    assert [*named, "data: [DONE]"] == [line for line in stream.text.splitlines() if line]
