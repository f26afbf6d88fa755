"""Pictures of a busy hour on many hosts, for a person to look at."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from inferline.fleet.registry import Model, ProviderRecord
from inferline.usage.ledger import Entry
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics
from tests.dashboard.conftest import DESKTOP, PHONE, Visit
from tests.support.gateway import Gateway, running_gateway

PATH = "/v1/chat/completions"
QWEN, LLAMA, SMALL = "Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct", "SmolLM2-135M-Instruct"
MODELS = (QWEN, LLAMA, SMALL, "BAAI/bge-m3", "mistral-small-3.2")
#: How much of the page the pictures of its top show: on a desktop all charts.
TOP = {"desktop": 1210, "phone": 844}
ILL = "Its LLM server answers the health check with status 503."
#: Its models, slots, how many of them run, why it takes no work, seconds a task, tokens a second.
PROVIDERS = {
    "gpu-a100-01": ((QWEN,), 8, 8, "", 2.4, 312.4),
    "gpu-a100-02": ((QWEN, LLAMA), 8, 8, "", 3.1, 288.1),
    "h100-eu-west-1c": ((LLAMA,), 16, 11, "", 4.2, 401.7),
    "laptop-anna": ((SMALL,), 2, 0, "", 0.8, 0.0),
    "rack-7": (("BAAI/bge-m3",), 4, 0, ILL, 0.05, 0.0),
}
RUNNING = (QWEN,) * 13 + (LLAMA,) * 14
WAITING = ("default",) * 7 + ("flex",) * 3 + ("priority",)


def provider(
    name: str,
    models: tuple[str, ...],
    slots: int,
    running: int,
    reason: str,
    service_seconds: float,
    tokens_per_second: float,
) -> ProviderRecord:
    """Return a provider as it would have told of itself."""
    return ProviderRecord(
        id=name,
        models=models,
        slots=slots,
        running=running,
        healthy=not reason,
        reason=reason,
        version="0.1.0",
        service_seconds=service_seconds,
        tokens_per_second=tokens_per_second,
    )


def hour(model: str, drawn: random.Random) -> list[MinuteMetrics]:
    """Return sixty minutes of a model, the busiest in the middle."""
    minutes = []
    for number in range(60):
        metrics = MinuteMetrics()
        for _ in range(drawn.randint(2, 12) + 8 * (20 < number < 36)):
            metrics.note(
                Entry(
                    ended_ms=0,
                    tenant="t",
                    model=model,
                    tier="default",
                    path=PATH,
                    streamed=True,
                    status=200,
                    code="deadline_exceeded" if drawn.random() < 0.01 else "",
                    first_ms=int(drawn.lognormvariate(6, 0.4)),
                    total_ms=int(drawn.lognormvariate(8, 0.4)),
                    queue_ms=int(drawn.lognormvariate(4.5, 0.9)),
                    input_tokens=int(drawn.lognormvariate(6.2, 0.6)),
                    output_tokens=int(drawn.lognormvariate(5.4, 0.5)),
                )
            )
        if 18 < number < 40 or number > 54:
            metrics.note_age(int(drawn.lognormvariate(8, 0.4)))
        minutes.append(metrics)
    return minutes


@asynccontextmanager
async def busy_gateway() -> AsyncIterator[Gateway]:
    """Yield a gateway that has had an hour of work and has more than its providers can do."""
    drawn = random.Random(7)
    async with running_gateway(no_provider_seconds=60) as gateway:
        for name in MODELS:
            queues = await gateway.queue.make(name)
            await gateway.registry.put_models([Model(id=name, queues=queues)])
        for name, fields in PROVIDERS.items():
            await gateway.registry.put_provider(provider(name, *fields))
        first = gateway.store.now_ms() // MINUTE_MS - 59
        for model in (QWEN, LLAMA, SMALL):
            for number, metrics in enumerate(hour(model, drawn)):
                await gateway.parts.minutes.add(Minute(first + number, model, metrics))
        await gateway.counted()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=90) as client:
            bodies = [{"model": model, "messages": []} for model in RUNNING]
            asked = [asyncio.create_task(client.post(PATH, json=body)) for body in bodies]
            for model in RUNNING:
                await gateway.take(model=model)
            bodies = [{"model": QWEN, "messages": [], "service_tier": tier} for tier in WAITING]
            asked += [asyncio.create_task(client.post(PATH, json=body)) for body in bodies]
            yield gateway
            for task in asked:
                task.cancel()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_a_busy_hour_is_pictured(
    visit: Visit, pictures: Path, size: str, scheme: str
) -> None:
    viewport = {"desktop": DESKTOP, "phone": PHONE}[size]
    async with busy_gateway() as gateway:
        page = await visit(gateway.url, viewport=viewport, color_scheme=scheme)

        await expect(page.locator("#why li").first).to_contain_text("11 requests wait.")

        await expect(page.locator("#providers .note").first).to_contain_text(ILL)
        await page.screenshot(path=pictures / f"busy-{size}-{scheme}.png", full_page=True)
        top = {"x": 0, "y": 0, "width": viewport["width"], "height": TOP[size]}
        path = pictures / f"busy-{size}-{scheme}-top.png"
        await page.screenshot(path=path, full_page=True, clip=top)
        await page.locator("#models a", has_text=QWEN).click()
        await expect(page.locator("#by-minute .chart").first).to_be_visible()
        await page.screenshot(path=pictures / f"busy-model-{size}-{scheme}.png", full_page=True)
        await page.context.close()  # Before the gateway ends: the page goes on asking it.
