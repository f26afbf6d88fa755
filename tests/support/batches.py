"""Batches in tests: inputs, and a provider that runs their shards through the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from inferline.accounts.caller import ANYONE, Caller
from inferline.batches.batch import Batch
from inferline.batches.creation import create
from inferline.batches.lifecycle import advance
from inferline.batches.parts import BatchParts
from inferline.clock import Clock, SystemClock
from inferline.errors import Unavailable
from inferline.files.content import read_file, write_manifest
from inferline.files.file import FileSegment, StoredFile, file_segment_key
from inferline.files.ids import new_id
from inferline.fleet.registry import Model
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.shard import Segment, SegmentKind, Shard, segment_key
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task
from inferline.validation.guard import Guard

MODEL = "test-model"
CHAT = "/v1/chat/completions"

#: What a provider's backend answers to a line's body: the status, and the body of the answer.
Answering = Callable[[Mapping[str, Any]], tuple[int, dict[str, Any]]]


def parts_on(stores: Any, clock: Clock | None = None, **settings: Any) -> BatchParts:
    """Return what works on batches, on some stores."""
    chosen = Settings(**settings)
    own = {"settings": chosen, "guard": Guard.from_settings(chosen), "clock": clock}
    own["clock"] = clock or SystemClock()
    named = (each.name for each in fields(BatchParts) if each.name not in own)
    return BatchParts(**{name: getattr(stores, name) for name in named}, **own)


def line(number: int, **changes: Any) -> dict[str, Any]:
    """Return a line of a batch's input."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}]}
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": body} | changes


def jsonl(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Return lines as a file."""
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


async def stored(
    stores: Any, data: bytes, tenant: str = ANYONE.tenant, cut: int = 8 << 20, **given: Any
) -> str:
    """Store a file in segments of ``cut`` bytes; return its id."""
    now_ms = stores.store.now_ms()
    file_id = new_id("file-", now_ms)
    segments = []
    for number, start in enumerate(range(0, len(data), cut)):
        piece = data[start : start + cut]
        segments.append(FileSegment(file_segment_key(tenant, file_id, number), len(piece)))
        await stores.objects.put(segments[-1].key, piece)
    await write_manifest(stores.objects, tenant, file_id, segments)
    file = StoredFile(
        id=file_id,
        tenant=tenant,
        bytes=len(data),
        created_ms=now_ms,
        expires_ms=now_ms + 30 * 86_400_000,
        filename="lines.jsonl",
        purpose="batch",
    )
    await stores.files.put_file(replace(file, **given))
    return file_id


async def know(stores: Any, name: str = MODEL) -> Model:
    """Make a model known, with its queues."""
    model = Model(id=name, queues=await stores.queue_maker.make(name))
    await stores.registry.put_models([model])
    return model


async def created(
    parts: BatchParts, data: bytes, caller: Caller = ANYONE, *, cut: int = 8 << 20, **given: Any
) -> Batch:
    """Create a batch of a file."""
    fields = {"endpoint": CHAT, "completion_window": "24h", "output_seconds_kept": 3600}
    file_id = await stored(parts, data, caller.tenant, cut)
    return await create(parts, caller, input_file_id=file_id, **fields | given)


async def advanced(parts: BatchParts, batch: Batch) -> Batch:
    """Do what the batch needs, and return it."""
    await advance(parts, batch.tenant, batch.id)
    row = await parts.batches.batch(batch.tenant, batch.id)
    assert row is not None
    return row


async def lines_of(parts: Any, tenant: str, file_id: str) -> list[dict[str, Any]]:
    """Return the lines of a file."""
    file = await parts.files.file(tenant, file_id)
    assert file is not None
    data = b"".join([piece async for piece in read_file(parts.objects, file)])
    assert len(data) == file.bytes
    return [json.loads(each) for each in data.splitlines()]


def answered(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer as a backend does."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return 200, {"object": "chat.completion", "model": body["model"], "usage": usage}


def refused(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Refuse as a backend does."""
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": "no"}
    return 400, {"error": error}


@dataclass(slots=True)
class ScriptedProvider:
    """A provider without a backend: it claims shards and commits results through the store."""

    parts: Any
    model: Model
    answer: Answering = answered
    name: str = "p1"
    #: The custom ids that it has run, in order.
    ran: list[str] = field(default_factory=list)

    async def run(self, shards: int = 10**6) -> int:
        """Run the shards that wait, ``shards`` at most; return how many."""
        for number in range(shards):
            claimed = await self.claim()
            if claimed is None:
                return number
            task, delivery = claimed
            await self.finish(await self.commit(task), delivery)
        return shards

    async def claim(self) -> tuple[Task, Delivery] | None:
        """Claim the next shard; None if none waits."""
        queue = self.parts.queue
        while True:
            deliveries = await queue.receive(
                self.model.queues["batch"], limit=1, wait_seconds=0, visibility_timeout_seconds=30
            )
            if not deliveries:
                return None
            message = Message.loads(deliveries[0].text)
            claim = await self.parts.store.claim(message.ref, self.name, 30)
            if isinstance(claim, Claimed):
                return claim.task, deliveries[0]
            await queue.delete(deliveries)

    async def commit(self, task: Task, lines: int | None = None) -> Task:
        """Run a shard's first ``lines`` lines that are not done, and commit their results."""
        assert task.shard is not None
        body = await self._input(task)
        todo = [at for at in range(task.shard.lines) if not task.shard.done >> at & 1][:lines]
        results: dict[SegmentKind, bytes] = {"output": b"", "error": b""}
        shard = task.shard
        for at in todo:
            kind, result, shard = self._run_line(shard, at, json.loads(body[at]))
            results[kind] += result
        written = await self._segments(task, results)
        task = replace(task, shard=replace(shard, segments=(*shard.segments, *written)))
        await self.parts.store.renew(task, 30)
        return task

    async def finish(self, task: Task, delivery: Delivery) -> None:
        """End a shard whose lines are all done, and delete its message."""
        await self.parts.store.finish(task, AttemptOutcome(status=200))
        await self.parts.queue.delete([delivery])

    async def _input(self, task: Task) -> list[bytes]:
        assert task.shard is not None
        key = f"{task.ref.slug}/{task.shard.batch}/{task.shard.number}/lines.jsonl"
        data = await self.parts.objects.get(key)
        if hashlib.sha256(data).hexdigest() != task.body_sha256:
            raise Unavailable("The input is not what was submitted.")
        lines: list[bytes] = data.split(b"\n")[:-1]
        assert len(lines) == task.shard.lines
        return lines

    def _run_line(
        self, shard: Shard, at: int, asked: Mapping[str, Any]
    ) -> tuple[SegmentKind, bytes, Shard]:
        status, answer = self.answer(asked["body"])
        self.ran.append(asked["custom_id"])
        kind: SegmentKind = "output" if status < 400 else "error"
        response = {"status_code": status, "request_id": f"req_{at}", "body": answer}
        result = {"id": f"batch_req_{at}", "custom_id": asked["custom_id"], "response": response}
        usage = {
            name: shard.usage.get(name, 0) + tokens
            for name, tokens in answer.get("usage", {}).items()
        }
        shard = replace(
            shard,
            done=shard.done | 1 << at,
            completed=shard.completed + (kind == "output"),
            failed=shard.failed + (kind == "error"),
            usage=usage or shard.usage,
        )
        return kind, jsonl([result | {"error": None}]), shard

    async def _segments(self, task: Task, results: Mapping[SegmentKind, bytes]) -> list[Segment]:
        assert task.shard is not None
        written = []
        for kind, data in results.items():
            if data:
                earlier = [s for s in task.shard.segments if s.kind == kind]
                segment = Segment(kind, task.attempt, len(earlier), len(data))
                shard = task.shard
                key = segment_key(task.ref.slug, shard.batch, shard.number, segment)
                await self.parts.objects.put(key, data)
                written.append(segment)
        return written
