"""The page on a line with a real LLM server, and pictures of it for a person to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from inferline.local.llm import model
from tests.dashboard.conftest import DESKTOP, PHONE, QUICK, Visit
from tests.support.line import Line, empty_line
from tests.support.llm import start_line

VIEWS = {
    "overview": "",
    "model": f"#/models/{model.ALIAS}",
    "playground": f"#/playground/{model.ALIAS}",
}


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """Yield a gateway, llama.cpp with a small model, and a provider for it."""
    with empty_line() as line:
        start_line(line, slots=2, context=512, **QUICK)
        line.start_provider("this-machine", None, "--slots", "2")
        yield line


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("phone", "light"), ("desktop", "dark")]
)
async def test_a_real_answer_is_taken_apart_and_pictured(
    line: Line, visit: Visit, pictures: Path, size: str, scheme: str
) -> None:
    viewport = {"desktop": DESKTOP, "phone": PHONE}[size]
    page = await visit(line.url, VIEWS["playground"], viewport=viewport, color_scheme=scheme)
    # The question goes to the model that is chosen, once models are known.
    await expect(page.locator("#ask-model")).not_to_have_value("")
    await page.fill("#ask-tokens", "64")
    await page.click("#send")

    await expect(page.locator("#ask-status")).to_contain_text("Done in")

    parts = await page.locator("#went-key dt").all_inner_texts()
    assert ["Queue", "First token", "Generation", "Delivery"] == parts
    assert 20 < len(await page.text("#answer"))
    await page.screenshot(path=pictures / f"playground-{size}-{scheme}.png", full_page=True)
    for name in ("overview", "model"):
        await page.evaluate("(at) => { location.hash = at; }", VIEWS[name])
        await expect(page.locator(f"#{name} h1")).to_be_visible()
        await page.wait_for_function(
            "() => !document.querySelector('.chart-now').textContent.startsWith('0')"
        )
        await page.screenshot(path=pictures / f"{name}-{size}-{scheme}.png", full_page=True)


async def test_tokens_are_counted_and_it_is_said_why_a_provider_takes_no_work(
    line: Line, visit: Visit
) -> None:
    scripted = line.start_backend("--model", "other")
    line.start_provider("ill", scripted)
    page = await visit(line.url, VIEWS["playground"])
    # The question goes to the model that is chosen, once models are known.
    await expect(page.locator("#ask-model")).not_to_have_value("")
    await page.fill("#ask-tokens", "32")
    await page.click("#send")
    await expect(page.locator("#ask-status")).to_contain_text("Done in")

    async with httpx.AsyncClient(timeout=60) as client:
        await client.post(f"{scripted}/_script/health", json={"ok": False})

    some = re.compile("^[1-9]")
    await page.click("nav a:first-child")
    row = page.locator("#providers tr").filter(has_text="this-machine")
    await expect(row.locator("td[data-label='Tokens a second']")).to_have_text(some)
    figure = page.locator("#figures > div").filter(has_text="Tokens").first
    await expect(figure.locator(".figure-value")).to_have_text(some)
    reason = "It takes no work. Its LLM server answers the health check with status 503."
    row = page.locator("#providers tr").filter(has_text="ill")
    await expect(row.locator(".badge")).to_have_text("unhealthy")
    await expect(row.locator(".note")).to_have_text(reason)
    await page.locator("#models a", has_text=model.ALIAS).click()
    tokens = page.locator("#by-minute .chart").filter(has_text="Tokens").locator(".chart-now")
    await expect(tokens).to_have_text(re.compile(r"^[1-9]\d* output, [1-9]\d* input in the hour"))
