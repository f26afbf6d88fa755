"""The first view in a real browser, on a gateway in memory: what it says and what it withstands."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from inferline.accounts.keys import new_key
from inferline.fleet.registry import Model, ProviderRecord
from inferline.usage.ledger import Entry
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics
from inferline.validation.payload import MODEL_CHARS_MAX
from tests.dashboard.conftest import DESKTOP, NARROW, PHONE, TABLET, Seen, Visit, missing
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
AXE = Path(__file__).with_name("node") / "node_modules/axe-core/axe.min.js"
#: Names that an enrolment refuses; here they stand in the registry all the same.
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg/onload=alert(3)>',
    "javascript:alert(4)",
    "{{7*7}}${alert(5)}",
    "</table></textarea><iframe src=//x>",
    "'; alert(6); '",
    "\u202eevil\u2028\x00 & %2e%2e/?",
    "a" * MODEL_CHARS_MAX,
)


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    """Yield a gateway that knows one model with one provider."""
    async with running_gateway(no_provider_seconds=30, overview_seconds=0.2) as running:
        await running.know()
        yield running


async def put(gateway: Gateway, provider: str, model: str = MODEL, **fields: object) -> None:
    """Put a provider into the registry, unchecked."""
    given = {"slots": 4, "running": 0, "healthy": True, "version": "1", "service_seconds": 2.0}
    queues = await gateway.queue.make(model)
    await gateway.registry.put_models([Model(id=model, queues=queues)])
    await gateway.registry.put_provider(
        ProviderRecord(id=provider, models=(model,), **(given | fields))  # type: ignore[arg-type]
    )


async def note(gateway: Gateway, model: str = MODEL, times: int = 1, ago: int = 0) -> None:
    """Have requests in the metrics of a minute."""
    metrics = MinuteMetrics()
    fields = {"tenant": "t", "model": model, "tier": "default", "path": PATH, "streamed": True}
    for _ in range(times):
        metrics.note(
            Entry(ended_ms=0, status=200, first_ms=300, total_ms=2000, queue_ms=40, **fields)  # type: ignore[arg-type]
        )
    number = gateway.store.now_ms() // MINUTE_MS - ago
    await gateway.parts.minutes.add(Minute(number, model, metrics))


async def test_a_provider_that_joins_appears_and_one_that_leaves_is_said_so(
    gateway: Gateway, visit: Visit
) -> None:
    page = await visit(gateway.url)
    rows = page.locator("#providers tr")
    await expect(rows).to_have_count(1)

    await put(gateway, "newcomer")
    await expect(rows.filter(has_text="newcomer")).to_contain_text("idle")

    await gateway.registry.remove_provider("newcomer")
    await expect(rows.filter(has_text="newcomer")).to_contain_text("It ended and said so.")
    await expect(page.locator("#news")).to_have_text("Provider newcomer left.")


async def test_the_chart_moves_with_the_requests(gateway: Gateway, visit: Visit) -> None:
    page = await visit(gateway.url)
    bars = page.locator("#hour .chart").first.locator(".bar-one")
    await expect(bars.last).to_have_attribute("height", "0.00")

    await note(gateway, times=3)

    await expect(page.locator(".chart-now").first).to_have_text("3 in the hour")
    drawn = await bars.evaluate_all(
        "bars => bars.map(bar => Number(bar.getAttribute('height'))).filter(Boolean)"
    )
    assert [75] == drawn


async def test_the_same_stands_in_a_table_for_who_does_not_see_it(
    gateway: Gateway, visit: Visit
) -> None:
    await note(gateway, times=2, ago=3)
    page = await visit(gateway.url)

    await page.click("#hour summary")

    row = page.locator("#hour tbody tr").nth(3)
    await expect(row).to_be_visible()
    cells = await row.locator("td").all_inner_texts()
    assert ["2", "0"] == cells[:2]
    assert ["0.31 s", "1.9 s", "42 ms"] == cells[4:7]


async def test_a_backlog_is_explained_with_an_estimate(gateway: Gateway, visit: Visit) -> None:
    await put(gateway, "p1", slots=2, running=2, service_seconds=10)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        asked = [
            asyncio.create_task(client.post(PATH, json={"model": MODEL, "messages": []}))
            for _ in range(4)
        ]

        page = await visit(gateway.url)

        said = page.locator("#why li")
        await expect(said).to_contain_text("4 requests wait. All 2 slots are in use")
        await expect(said).to_contain_text("A new one waits about 20 s in default.")
        for task in asked:
            task.cancel()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"healthy": False}, "p1 would serve it, but is unhealthy."),
        (None, "No provider serves it."),
    ],
    ids=["unhealthy", "nobody"],
)
async def test_a_model_that_nobody_can_serve_is_explained(
    gateway: Gateway, visit: Visit, changes: dict[str, object] | None, said: str
) -> None:
    await gateway.registry.remove_provider("p1")
    if changes is not None:
        await put(gateway, "p1", **changes)
    await gateway.counted()

    page = await visit(gateway.url)

    await expect(page.locator("#why li")).to_contain_text(said)


async def test_hostile_names_are_text_and_nothing_else(gateway: Gateway, visit: Visit) -> None:
    for at, name in enumerate(HOSTILE):
        await put(gateway, name, name, version=HOSTILE[at - 1])
        await note(gateway, name)

    page = await visit(gateway.url)

    await expect(page.locator("#models tr")).to_have_count(len(HOSTILE) + 1)
    shown = await page.locator("#models th").all_text_contents()
    assert {*HOSTILE, MODEL} == set(shown)
    shown = await page.locator("#providers th").all_text_contents()
    assert {*HOSTILE, "p1"} == set(shown)
    assert 0 == await page.locator("main :is(script, iframe, object, embed), main img").count()
    for name in HOSTILE:
        await page.locator("#models a", has_text=name[:30]).first.click()
        await expect(page.locator("#model-title")).to_have_text(re.compile(re.escape(name[:4])))
        assert name == await page.locator("#model-title").text_content()
        assert json.dumps(name, ensure_ascii=False)[1:5] in await page.text("#snippets")
        await page.go_back()


async def test_a_key_is_asked_for_and_kept_nowhere(visit: Visit) -> None:
    async with running_gateway(access="keys") as gateway:
        key, made = new_key("client", "n", tenant="t", now_ms=gateway.store.now_ms())
        await gateway.keys.put_key(key)
        await gateway.know()
        page = await visit(gateway.url)
        page.expected.append("401")
        dialog = page.locator("#key")
        await expect(dialog).to_be_visible()

        await page.fill("#key-field", "il_" + "x" * 9)
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-wrong")).to_contain_text("not a whole InferLine key")
        await page.fill("#key-field", made)
        await page.keyboard.press("Enter")

        await expect(page.locator("#models tr")).to_have_count(1)
        kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert [0, 0, "", f"{gateway.url}/dashboard/"] == await page.evaluate(kept)
        await page.context.close()  # Before the gateway ends: the page goes on asking it.


async def test_a_gateway_that_does_not_answer_is_said_so(visit: Visit) -> None:
    async with running_gateway() as gateway:
        await gateway.know()
        page = await visit(gateway.url)
        await expect(page.locator("#models tr")).to_have_count(1)

        await page.context.set_offline(True)

        await expect(page.locator("#trouble")).to_contain_text("The gateway does not answer.")
        await expect(page.locator("#models tr")).to_have_count(1)
        page.faults.clear()


async def test_of_many_providers_and_models_only_what_changed_is_drawn_again(
    gateway: Gateway, visit: Visit
) -> None:
    for number in range(200):
        await put(gateway, f"first-{number}", f"org/model-{number:03}")
    for number in range(500):
        await put(gateway, f"host-{number:03}", f"org/model-{number % 200:03}")
    page = await visit(gateway.url)
    await expect(page.locator("#models-count")).to_have_text("201")
    for name in ("models", "providers"):
        await page.click(f"#{name}-more")
    await expect(page.locator("#providers tr")).to_have_count(701)

    await page.evaluate(
        """() => {
            window.drawn = 0;
            const count = (nodes) => [...nodes].filter((node) => node.nodeName === "TR").length;
            new MutationObserver((changes) => {
              for (const change of changes) window.drawn += count(change.addedNodes);
            }).observe(document.body, { childList: true, subtree: true });
        }"""
    )
    await put(gateway, "one-more", "org/model-000")
    await expect(page.locator("#providers tr")).to_have_count(702)

    assert 1 == await page.evaluate("window.drawn")
    await page.fill("#providers-filter", "host-499")
    await expect(page.locator("#providers tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "#/models/test-model", "#/playground"])
async def test_axe_finds_no_serious_fault(
    gateway: Gateway, visit: Visit, scheme: str, view: str
) -> None:
    await put(gateway, "ill", "other", healthy=False, reason="Its LLM server does not answer.")
    await note(gateway)
    page = await visit(gateway.url, view, color_scheme=scheme, bypass_csp=True)
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    if "models" in view:
        await expect(page.locator("#by-minute")).to_be_visible()
    for table in await page.locator("details:visible").all():
        await table.locator("summary").click()

    assert [] == await serious_faults(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_serious_fault_where_a_key_is_asked_for(
    visit: Visit, scheme: str
) -> None:
    async with running_gateway(access="keys") as gateway:
        page = await visit(gateway.url, color_scheme=scheme, bypass_csp=True)
        page.expected.append("401")
        await expect(page.locator("#key")).to_be_visible()

        assert [] == await serious_faults(page)

        await page.click("#key-cancel")
        await expect(page.locator("#forget")).to_have_text("Enter key")
        assert [] == await serious_faults(page)
        await page.context.close()  # Before the gateway ends: the page goes on asking it.


async def serious_faults(page: Seen) -> list[object]:
    """Return what axe finds on a page, by rule and place."""
    if not AXE.is_file():
        missing("axe-core")
    await page.evaluate(AXE.read_text())
    report = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in report["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    "viewport", [DESKTOP, TABLET, PHONE, NARROW], ids=["desktop", "tablet", "phone", "narrow"]
)
async def test_nothing_is_wider_than_the_screen(
    gateway: Gateway, visit: Visit, viewport: dict[str, int]
) -> None:
    await put(gateway, "a" * 128, "b" * 128)
    await put(gateway, "c" * 128, "d" * 128, healthy=False, reason="e" * 200)
    for view in ("", f"#/models/{'b' * 128}", "#/playground"):
        page = await visit(gateway.url, view, viewport=viewport)
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")

        assert viewport["width"] == await page.evaluate("document.documentElement.scrollWidth")


async def test_all_can_be_reached_with_the_keyboard(gateway: Gateway, visit: Visit) -> None:
    page = await visit(gateway.url)
    await expect(page.locator("#models tr")).to_have_count(1)
    reached = []

    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("document.activeElement.textContent.trim().slice(0, 30)")
        )

    wanted = ["Skip to the content", "InferLine", "Overview", "Playground", MODEL]
    assert wanted == [text for text in reached if text in wanted][: len(wanted)]
