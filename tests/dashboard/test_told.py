"""What the page makes of what it is told, and when it asks: on made-up overviews."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from inferline.gateway.routes.objects import OverviewObject
from tests.dashboard.conftest import NARROW, Seen, Visit
from tests.dashboard.told import (
    MODEL,
    URL,
    Json,
    Told,
    hour,
    older,
    overview,
    provider,
    queue,
)

AT_WORK = {"requests": 3, "output_tokens": 900, "input_tokens": 36_000, "oldest_seconds": 12.0}
NONE = "\u2013"
OWN_HOUR = f"overview/hour {MODEL}"


def chart(page: Seen, title: str, place: str = "#hour") -> Any:
    """Return the chart of this title."""
    return page.locator(f"{place} .chart").filter(has=page.get_by_text(title, exact=True))


async def show(page: Page | Seen, *, hidden: bool) -> None:
    """Have the page be told that its tab went into the background, or came back."""
    await page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            const value = hidden ? "hidden" : "visible";
            Object.defineProperty(document, "visibilityState", { value, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_what_is_made_up_here_is_what_a_gateway_tells() -> None:
    scripted = overview()

    assert scripted == OverviewObject.model_validate(scripted).model_dump()


async def test_a_providers_tokens_are_told_and_why_it_takes_no_work(visit: Visit) -> None:
    reason = "Its LLM server refused the key <img src=x onerror=alert(1)>."
    scripted = Told(
        overview(
            providers=[
                provider(id="quick", tokens_per_second=41.7),
                provider(id="ill", models=["other"], healthy=False, reason=reason),
            ]
        )
    )

    page = await visit(URL, prepare=scripted.prepare)

    rows = page.locator("#providers tr")
    cell = rows.filter(has_text="quick").locator("td[data-label='Tokens a second']")
    await expect(cell).to_have_text("42")
    await expect(rows.first.locator(".badge")).to_have_text("unhealthy")
    await expect(rows.first.locator(".note")).to_have_text(f"It takes no work. {reason}")
    said = f"ill would serve it, but is unhealthy. {reason} Work is taken again"
    await expect(page.locator("#why li")).to_contain_text(said)
    assert 0 == await page.locator("main img").count()


async def test_the_hour_tells_of_tokens_and_of_the_queues_age(visit: Visit) -> None:
    scripted = Told(overview(hour=hour({"output_tokens": 100, "oldest_seconds": 3.0}, AT_WORK)))

    page = await visit(URL, prepare=scripted.prepare)

    tokens, age = chart(page, "Tokens"), chart(page, "Queue age")
    await expect(tokens.locator(".chart-now")).to_have_text("1,000 output, 36K input in the hour")
    heights = "bars => bars.slice(-2).map(bar => Number(bar.getAttribute('height')))"
    assert [2.25, 90] == await tokens.locator("rect").evaluate_all(heights)
    assert "12 s at" in await age.locator(".chart-now").inner_text()
    label = await age.locator("svg").get_attribute("aria-label")
    assert label.startswith("Queue age: 12 s at ")
    drawn = await age.locator("path.line-one").get_attribute("d")
    assert drawn == "M58.5 80.00L59.5 20.00"
    figure = page.locator("#figures > div").filter(has_text="Tokens").first
    assert "Tokens 900 output, 36K input" == " ".join((await figure.inner_text()).split())
    await page.click("#hour summary")
    cells = page.locator("#hour tbody tr").first.locator("td")
    await expect(cells).to_have_text(["3", "0", "900", "36,000", NONE, NONE, NONE, "12 s"])


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        (
            [queue(waiting=10, oldest_seconds=9.0, tenants=3, largest_share=0.8, yours=2)],
            "Three tenants wait; the largest has 80 % of what waits, and two of the requests are "
            "yours. Tenants take turns",
        ),
        (
            [
                queue(waiting=4, oldest_seconds=9.0, tenants=2, largest_share=0.75, yours=1),
                queue("flex", waiting=30, oldest_seconds=9.0, tenants=9, largest_share=0.5),
            ],
            "Two tenants wait in default; the largest has 75 % of what waits, and one of the "
            "requests is yours. 9 tenants wait in flex; the largest has 50 % of what waits, and "
            "none of the requests is yours.",
        ),
    ],
    ids=["one-tier", "two-tiers"],
)
async def test_a_wait_among_tenants_is_told_in_shares_and_without_names(
    visit: Visit, queues: list[Json], said: str
) -> None:
    busy = provider(running=4, service_seconds=8.0)
    scripted = Told(overview(queues=queues, providers=[busy]))

    page = await visit(URL, prepare=scripted.prepare)

    await expect(page.locator("#why li")).to_contain_text(said)


async def test_a_backlog_beside_an_unhealthy_provider_names_that_one(visit: Visit) -> None:
    providers = [provider(running=4), provider(id="ill", healthy=False, reason="It is cold.")]
    scripted = Told(overview(queues=[queue(waiting=9, oldest_seconds=9.0)], providers=providers))

    page = await visit(URL, prepare=scripted.prepare)

    await expect(page.locator("#why li")).to_contain_text("ill is unhealthy and takes no work.")


async def test_one_tenant_alone_hears_nothing_of_turns(visit: Visit) -> None:
    alone = queue(waiting=4, oldest_seconds=9.0, tenants=1, largest_share=1.0, yours=4)
    scripted = Told(overview(queues=[alone], providers=[provider(running=4)]))

    page = await visit(URL, prepare=scripted.prepare)

    await expect(page.locator("#why li")).to_contain_text("A new one waits about 2.0 s in default.")
    assert "enant" not in await page.text("#why")


async def test_a_models_page_has_its_own_hour_which_is_asked_for_only_there(visit: Visit) -> None:
    scripted = Told(overview(hour=hour(AT_WORK)), {MODEL: hour(AT_WORK)}, is_still=True)
    page = await visit(URL, prepare=scripted.prepare)
    await expect(page.locator("#models tr")).to_have_count(1)
    await scripted.later(page, lambda asked: 2 == len(asked))
    assert ["overview", "overview"] == scripted.asked

    await page.click("#models a")

    tokens = chart(page, "Tokens", "#by-minute").locator(".chart-now")
    await expect(tokens).to_have_text("900 output, 36K input in the hour")
    assert "Tokens: 900 output, 36,000 input." in await page.text("#model-hour")
    assert ["overview", OWN_HOUR] == scripted.asked[2:]
    await scripted.later(page, lambda asked: 6 == len(asked))
    assert ["overview", OWN_HOUR] == scripted.asked[4:]
    await page.click("nav a:first-child")
    await expect(page.locator("#overview")).to_be_visible()
    await scripted.later(page, lambda asked: 8 == len(asked))
    assert ["overview", "overview"] == scripted.asked[6:]


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("not_found", ["overview", OWN_HOUR, "overview", "overview"]),
        ("model_not_found", ["overview", OWN_HOUR, "overview", OWN_HOUR]),
    ],
    ids=["an-older-gateway", "no-such-model"],
)
async def test_a_model_without_an_hour_has_no_charts(
    visit: Visit, code: str, asked: list[str]
) -> None:
    scripted = Told(code=code, is_still=True)
    page = await visit(URL, f"#/models/{MODEL}", prepare=scripted.prepare)
    await expect(page.locator("#tier-rows tr")).to_have_count(3)

    await scripted.later(page, lambda asked: 4 <= len(asked))

    assert asked == scripted.asked[:4]
    await expect(page.locator("#by-minute")).to_be_hidden()
    await expect(page.locator("#trouble")).to_be_hidden()
    # That there is none stands in the console, and is no fault of the page.
    page.faults[:] = [fault for fault in page.faults if "404" not in fault]


@pytest.mark.parametrize("view", ["", f"#/models/{MODEL}"])
async def test_an_older_gateway_is_shown_with_dashes(visit: Visit, view: str) -> None:
    waits = [queue(waiting=10, oldest_seconds=9.0)]
    scripted = Told(
        older(overview(queues=waits, providers=[provider(running=4), provider(healthy=False)])),
        code="not_found",
    )

    page = await visit(URL, view, viewport=NARROW, prepare=scripted.prepare)

    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    await expect(page.locator("#trouble")).to_be_hidden()
    assert NARROW["width"] == await page.evaluate("document.documentElement.scrollWidth")
    for wrong in ("NaN", "undefined", "null"):
        assert wrong not in await page.locator("main").text_content()
    if view:
        assert f"Tokens: {NONE} output, {NONE} input." in await page.text("#model-hour")
    else:
        assert NONE == await page.locator("#figures .figure-value").nth(4).inner_text()
        for title in ("Tokens", "Queue age"):
            assert NONE == await chart(page, title).locator(".chart-now").inner_text()
        cell = page.locator("#providers td[data-label='Tokens a second']").first
        assert NONE == (await cell.inner_text()).strip()
        assert "Tenants take turns" in await page.text("#why")
    page.faults[:] = [fault for fault in page.faults if "404" not in fault]


async def test_nothing_is_asked_for_while_nobody_looks(visit: Visit) -> None:
    scripted = Told(is_still=True)
    page = await visit(URL, prepare=scripted.prepare)
    await scripted.later(page, lambda asked: 2 == len(asked))
    await expect(page.locator("#live-text")).to_have_text("Live")

    await show(page, hidden=True)
    await expect(page.locator("#live-text")).to_have_text("Paused")
    await page.clock.run_for(120_000)
    await show(page, hidden=False)

    # At once, and then as before; what was asked for meanwhile would have come before it.
    await expect(page.locator("#live-text")).to_have_text("Live")
    assert 3 == len(scripted.asked)
    await scripted.later(page, lambda asked: 4 == len(asked))
