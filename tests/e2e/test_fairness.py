"""One tenant has much waiting at a line of one slot: others do not wait for that."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import Any

import httpx

from inferline.accounts.caller import Caller
from inferline.gateway.app import GatewayApp, open_gateway
from inferline.settings import Settings
from inferline.tasks.store import Wanted
from inferline.tasks.task import Task
from inferline.validation import payload
from tests.support.line import MODEL, Line, running_line, until

PATH = "/v1/chat/completions"
#: How many requests the heavy tenant has waiting.
COUNT = 12


class Clients:
    """Tenants at gateways of one line, who count what each has open, as those will."""

    def __init__(self, gateways: list[GatewayApp]) -> None:
        self._gateways = gateways
        self._open: dict[str, int] = {}
        self.tasks: list[Task] = []

    async def ask(self, tenant: str, **script: Any) -> Task:
        """Submit a request, at each gateway in turn."""
        submitter = self._gateways[len(self.tasks) % len(self._gateways)].submitter
        asked = {"model": MODEL, "messages": [], "user": tenant, "x_script": script}
        body = json.dumps(asked).encode()
        self._open[tenant] = self._open.get(tenant, 0) + 1
        task_id = f"req_{uuid.uuid4().hex}"
        caller = Caller(tenant=tenant)
        submission = await submitter.prepare(task_id, PATH, payload.read(body), body, caller=caller)
        await submitter.submit(replace(submission, tenant_open=self._open[tenant]))
        self.tasks.append(submission.task)
        return submission.task

    async def answered(self) -> int:
        """Return how many tasks have ended: the store tells who looks, and nobody else."""
        store = self._gateways[0].parts.store
        rows = await store.read([Wanted(task.ref) for task in self.tasks])
        return sum(row.task is not None and row.task.state.terminal for row in rows)


def order(line: Line) -> list[str]:
    """Return whose requests the LLM server was asked, in that order."""
    bodies = httpx.get(f"{line.backend_url}/_script/bodies", timeout=60).json()
    return [json.loads(body)["user"] for body in bodies]


async def test_who_has_little_open_goes_before_all_that_a_heavy_tenant_has_waiting() -> None:
    """One more may go first: a message that is just being handed back can't be had."""
    with running_line(slots=1) as line:
        settings = Settings(endpoint_url=line.emulator_url)
        async with open_gateway(settings) as one, open_gateway(settings) as other:
            clients = Clients([one, other])
            held = await clients.ask("heavy", hang=True)
            await asyncio.to_thread(until, lambda: line.backend_state()["running"], "it runs")
            for tenant in [*["heavy"] * COUNT, "light", "another"]:
                await clients.ask(tenant, tokens=1, first=0.01)

            await one.parts.store.cancel(held.ref)
            async with asyncio.timeout(60):
                while await clients.answered() < len(clients.tasks):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        served = order(line)
        assert 1 + COUNT + 2 == len(served)
        assert {"light", "another"} <= set(served[1:4])
