"""The page on a line of real processes: an answer as it streams, and a provider that is killed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.dashboard.conftest import QUICK, Visit
from tests.support.line import MODEL, Line, running_line


@pytest.fixture(scope="module")
def shared() -> Iterator[Line]:
    """Yield a line whose silent providers are soon gone."""
    short = {
        "INFERLINE_ENROL_SECONDS": "1",
        "INFERLINE_SILENT_SECONDS": "4",
        "INFERLINE_NO_PROVIDER_SECONDS": "10",
        **QUICK,
    }
    with running_line("--tokens", "40", "--tokens-per-second", "20", **short) as running:
        yield running


@pytest.fixture
def line(shared: Line) -> Line:
    """Return the same, with a provider for its LLM server."""
    if shared.parts[-1].process.poll() is not None:
        shared.start_provider("p1", None, "--slots", "4")
    return shared


async def test_the_answer_comes_as_it_is_made_and_says_where_the_time_went(
    line: Line, visit: Visit
) -> None:
    page = await visit(line.url, f"#/playground/{MODEL}")
    await expect(page.locator("#ask-model")).to_have_value(MODEL)
    await page.click("#send")

    # Streams: there is some of it while it is still being answered.
    await expect(page.locator("#answer")).not_to_be_empty()
    early = len(await page.text("#answer"))
    await expect(page.locator("#ask-status")).to_have_text("Answering…")
    await expect(page.locator("#ask-status")).to_contain_text("40 tokens")

    assert early < len(await page.text("#answer"))
    parts = await page.locator("#went-key dt").all_inner_texts()
    assert ["Queue", "First token", "Generation and delivery"] == parts
    took = await page.text("#ask-status")
    # Forty tokens, twenty a second, and the first at once.
    assert 1.9 <= float(re.findall(r"Done in ([\d.]+) s", took)[0])
    assert "Answered by p1" in await page.text("#went-who")
    await page.click("nav a:first-child")
    await expect(page.locator(".chart-now").first).to_have_text("1 in the hour")
    assert "1" in await page.text("#models td[data-label='Requests/h']")


async def test_an_answer_can_be_stopped(line: Line, visit: Visit) -> None:
    page = await visit(line.url, f"#/playground/{MODEL}")
    await expect(page.locator("#ask-model")).to_have_value(MODEL)
    await page.click("#send")
    await expect(page.locator("#answer")).not_to_be_empty()

    await page.click("#stop")

    await expect(page.locator("#ask-status")).to_have_text("Stopped.")
    await expect(page.locator("#send")).to_be_enabled()


async def test_while_it_waits_it_says_why_and_then_what_went_wrong(
    line: Line, visit: Visit
) -> None:
    page = await visit(line.url, f"#/playground/{MODEL}")
    await expect(page.locator("#ask-model")).to_have_value(MODEL)
    line.parts[-1].stop()

    await page.click("#send")

    await expect(page.locator("#ask-status")).to_have_text("Waiting for a provider…")
    await expect(page.locator("#ask-why")).to_contain_text("No provider serves it.")
    await expect(page.locator("#ask-status")).to_contain_text("No provider has served the model")
    await expect(page.locator("#ask-why")).to_be_empty()
    # That it was a 503 stands in the console, and is no fault of the page.
    page.faults[:] = [fault for fault in page.faults if "503" not in fault]


async def test_a_killed_provider_is_said_so_and_why_a_request_waits(
    line: Line, visit: Visit
) -> None:
    page = await visit(line.url)
    row = page.locator("#providers tr")
    await expect(row).to_contain_text("idle")

    line.parts[-1].kill()

    await expect(row).to_contain_text("gone")
    await expect(page.locator("#news")).to_have_text("Provider p1 is gone.")
    await expect(page.locator("#why li")).to_contain_text("No provider serves it.")
    line.start_provider("p1")
    await expect(row).to_contain_text("idle")
    await expect(page.locator("#why li")).to_contain_text("Nothing waits")
