"""The table of a tenant's batches, on made-up answers of a gateway."""

from __future__ import annotations

from playwright.async_api import expect

from tests.dashboard.conftest import Visit
from tests.dashboard.told import URL, Told, batch, overview, queue

BUSY = [queue(), queue("batch", running=3)]


async def test_a_batch_has_its_progress_its_rate_and_its_end(visit: Visit) -> None:
    page = await visit(URL, prepare=Told(overview(queues=BUSY), batches=[batch()]).prepare)

    row = page.locator("#batches tr")
    await expect(row).to_contain_text("in progress")
    await expect(row).to_contain_text("250 of 1,000")
    await expect(row).to_contain_text("10 (1.0 %)")
    assert (await row.locator("td.number").all_inner_texts())[1:] == ["2.5", "5 min"]


async def test_its_tasks_are_no_waiting_requests(visit: Visit) -> None:
    queues = [queue(), queue("batch", waiting=50, oldest_seconds=9000.0)]
    page = await visit(URL, prepare=Told(overview(queues=queues), batches=[batch()]).prepare)

    await expect(page.locator("#batches tr")).to_be_visible()
    await expect(page.locator("#why")).to_contain_text("Nothing waits")


async def test_a_batch_is_cancelled_by_its_button(visit: Visit) -> None:
    gateway = Told(overview(queues=BUSY), batches=[batch()])
    page = await visit(URL, prepare=gateway.prepare)

    await page.get_by_role("button", name="Cancel batch_1").click()

    await expect(page.locator("#batches tr")).to_contain_text("cancelling")
    assert "batches/batch_1/cancel" in gateway.asked


async def test_without_batches_there_is_no_table_and_nothing_is_asked(visit: Visit) -> None:
    gateway = Told(overview())
    page = await visit(URL, prepare=gateway.prepare)

    await expect(page.locator("#models tr")).to_be_visible()
    await expect(page.locator("#batches-part")).to_be_hidden()
    assert "batches" not in gateway.asked
