"""A real Chromium, and a page of it that tells of everything that went wrong on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

#: As one user on a machine without a screen, and without asking anybody outside for anything.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
#: A fault shows soon; this is for a machine that is busy.
WAIT_MS_MAX = 60_000
expect.set_options(timeout=WAIT_MS_MAX)
#: Between two looks of a page, where time does not stand still.
EVERY_MS = 200
#: The same for the figures behind it: a gateway writes and gathers them as often.
QUICK = {"INFERLINE_FIGURES_SECONDS": "0.2", "INFERLINE_OVERVIEW_SECONDS": "0.2"}
DESKTOP = {"width": 1280, "height": 900}
TABLET = {"width": 1000, "height": 800}
PHONE = {"width": 390, "height": 844}
#: The narrowest phone that is still sold.
NARROW = {"width": 360, "height": 740}
#: Notes each breach of the page's policy, and each dialog that a script opened.
WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy: " + event.violatedDirective + " " + event.blockedURI));
"""


@dataclass(slots=True)
class Seen:
    """A page, and what went wrong on it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    #: What stands in the console and is no fault of the page: it holds one of these.
    expected: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    async def text(self, selector: str) -> str:
        """Return what one element says."""
        return " ".join((await self.page.inner_text(selector)).split())


def missing(what: str) -> NoReturn:
    """Skip the test for what a laptop may lack; on CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


def chromium() -> str:
    """Return the path of Chromium. Skips the test without one."""
    return shutil.which("chromium") or shutil.which("google-chrome") or missing("Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the page on one loop, which is the browser's."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Yield a browser, in which each test has pages of its own."""
    path = chromium()
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield started
        finally:
            await started.close()


Visit = Callable[..., Awaitable[Seen]]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Open the dashboard of a gateway; what went wrong on it fails the test at its end."""
    opened: list[Seen] = []

    async def go(
        url: str,
        at: str = "",
        *,
        prepare: Callable[[Page], Awaitable[None]] | None = None,
        **options: Any,
    ) -> Seen:
        context = await browser.new_context(viewport=options.pop("viewport", DESKTOP), **options)
        context.set_default_timeout(WAIT_MS_MAX)
        seen = Seen(await context.new_page())
        opened.append(seen)
        await seen.page.add_init_script(f"{WATCH} globalThis.inferlineEveryMs = {EVERY_MS};")
        if prepare is not None:
            await prepare(seen.page)
        seen.page.on("console", lambda said: _note(seen, said))
        seen.page.on("pageerror", lambda error: seen.faults.append(f"error: {error}"))
        seen.page.on("dialog", lambda dialog: _refuse(seen, dialog))
        await seen.page.goto(f"{url}/dashboard/{at}")
        return seen

    yield go
    for seen in opened:
        await seen.page.context.close()
    faults = [
        fault
        for seen in opened
        for fault in seen.faults
        if not any(text in fault for text in seen.expected)
    ]
    assert [] == faults


def _note(seen: Seen, said: Any) -> None:
    if said.type in ("error", "warning"):
        seen.faults.append(f"{said.type}: {said.text}")


async def _refuse(seen: Seen, dialog: Any) -> None:
    seen.faults.append(f"dialog: {dialog.message}")
    await dialog.dismiss()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Return where pictures of the page are kept, for a person to look at."""
    folder = Path(os.environ.get("DASHBOARD_PICTURES", "build/pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
