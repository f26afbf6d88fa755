"""Batches as a gateway leaves them for providers: shards on the queue, their lines as an object."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from inferline.names import slug
from inferline.tasks.queue import Message
from inferline.tasks.shard import Shard, input_key, segment_key
from inferline.tasks.task import State, Task, TaskRef
from tests.provider.world import World

BATCH = "batch_00000000000000000000000001"
CHAT = "/v1/chat/completions"


def line(number: int, body: dict[str, Any] | None = None, model: str = "test-model") -> bytes:
    """Write a line of a batch."""
    request = {"model": model, "messages": [{"role": "user", "content": f"line {number}"}]}
    document = {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": CHAT,
        "body": {**request, **(body or {})},
    }
    return json.dumps(document).encode()


async def submit(
    around: World,
    lines: list[bytes],
    *,
    number: int = 0,
    path: str = CHAT,
    model: str = "test-model",
    seconds: float = 600.0,
    attempts: int = 20,
    sha256: str | None = None,
    is_lost: bool = False,
    **progress: Any,
) -> Task:
    """
    Do what a gateway does with one shard of a batch, whose row may have some progress.

    `is_lost`: another provider has claimed it and its lease has lapsed.
    """
    data = b"\n".join(lines)
    key = input_key(slug(model), BATCH, number)
    await around.objects.put(key, data)
    now_ms = around.store.now_ms()
    task = Task(
        ref=TaskRef(slug(model), f"{BATCH}-{number}"),
        model=model,
        tier="batch",
        tenant="t",
        path=path,
        body_sha256=sha256 or hashlib.sha256(data).hexdigest(),
        created_ms=now_ms,
        deadline_ms=now_ms + round(seconds * 1000),
        attempt_limit=attempts,
        ttl=now_ms // 1000 + 3600,
        shard=Shard(batch=BATCH, number=number, lines=len(lines), **progress),
    )
    if is_lost:
        left = {"state": State.RUNNING, "attempt": 1, "owner": "lost", "lease_ms": now_ms - 1000}
        task = replace(task, **left)
    await around.store.submit(task)
    await send(around, task, key)
    return task


async def send(around: World, task: Task, key: str | None = None) -> None:
    """Put a shard's message on its queue."""
    assert task.shard is not None
    key = key or input_key(task.ref.slug, BATCH, task.shard.number)
    url = (await around.queue.make(task.registry_name))["batch"]
    await around.queue.send(url, Message(ref=task.ref, body_key=key), "t")


async def results(around: World, task: Task) -> dict[str, list[dict[str, Any]]]:
    """Return the results that a shard's row lists, by kind of segment."""
    shard = around.row(task).shard
    assert shard is not None
    listed: dict[str, list[dict[str, Any]]] = {"output": [], "error": []}
    for segment in shard.segments:
        data = await around.objects.get(segment_key(task.ref.slug, BATCH, shard.number, segment))
        assert len(data) == segment.bytes
        listed[segment.kind] += map(json.loads, data.splitlines())
    return listed


def custom_ids(listed: list[dict[str, Any]]) -> list[str]:
    """Return whose results they are, sorted as the lines are."""
    return sorted((result["custom_id"] for result in listed), key=lambda name: int(name[1:]))


def named(*numbers: int) -> list[str]:
    """Return the `custom_id` of each line."""
    return [f"c{number}" for number in numbers]
