"""The contract of every task queue."""

from __future__ import annotations

import asyncio

import pytest

from inferline.tasks.queue import Delivery, Message, UnreadableMessage
from inferline.tasks.task import QUEUE_TIERS, TaskRef
from tests.support.seams import Seams

REF = TaskRef("m-0", "t1")


@pytest.fixture
async def url(seams: Seams) -> str:
    urls = await seams.queue_maker.make("org/a model?")
    queue_url: str = urls["default"]
    return queue_url


async def receive(seams: Seams, url: str, *, limit: int = 10, wait: int = 1) -> list[Delivery]:
    deliveries: list[Delivery] = await seams.queue.receive(
        url, limit=limit, wait_seconds=wait, visibility_timeout_seconds=30
    )
    return deliveries


def message(number: int = 1, body: bytes = b"{}") -> Message:
    return Message(ref=TaskRef("m-0", f"t{number}"), body=body)


@pytest.mark.parametrize(
    "body",
    [b"{}", '{"a": "\u2028 \ufffe 😀 \\u0001"}'.encode(), b'{"a":"\x7f<&>"}', b'"\\ud83d"'],
)
async def test_a_message_comes_back_as_it_was_sent(seams: Seams, url: str, body: bytes) -> None:
    await seams.queue.send(url, message(body=body), "tenant")

    (delivery,) = await receive(seams, url)

    assert message(body=body) == Message.loads(delivery.text)
    assert 1 == delivery.receives
    assert abs(delivery.sent_ms - seams.store.now_ms()) < 60_000


@pytest.mark.parametrize("body", [bytes(range(256)), b""])
async def test_a_body_that_is_no_json_comes_back_as_it_was_sent(
    seams: Seams, url: str, body: bytes
) -> None:
    sent = Message(ref=TaskRef("m-0", "t1"), body=body, is_json=False)
    await seams.queue.send(url, sent, "tenant")

    [delivery] = await receive(seams, url)

    assert sent == Message.loads(delivery.text)


async def test_a_received_message_is_hidden_until_it_is_handed_back(seams: Seams, url: str) -> None:
    await seams.queue.send(url, message(), "tenant")
    (first,) = await receive(seams, url)
    assert [] == await receive(seams, url, wait=0)

    await seams.queue.change_visibility([first], 0)

    (second,) = await receive(seams, url)
    assert 2 == second.receives


async def test_a_deleted_message_never_comes_back(seams: Seams, url: str) -> None:
    await seams.queue.send(url, message(), "tenant")
    (delivery,) = await receive(seams, url)
    await seams.queue.delete([delivery])

    await seams.queue.change_visibility([delivery], 0)

    assert [] == await receive(seams, url, wait=0)


async def test_what_is_no_longer_ours_is_passed_over(seams: Seams, url: str) -> None:
    await seams.queue.send(url, message(), "tenant")
    (stale,) = await receive(seams, url)
    await seams.queue.change_visibility([stale], 0)
    (fresh,) = await receive(seams, url)

    await seams.queue.delete([stale])
    await seams.queue.change_visibility([fresh], 0)
    await seams.queue.delete([stale, fresh])

    assert fresh.text == stale.text


async def test_many_messages_are_moved_ten_at_a_time(seams: Seams, url: str) -> None:
    for number in range(23):
        await seams.queue.send(url, message(number), "tenant")
    taken: list[Delivery] = []
    while len(taken) < 23:
        taken += await receive(seams, url)

    await seams.queue.delete(taken)

    depth = await seams.queue.depth(url)
    assert (0, 0) == (depth.waiting, depth.running)
    assert {f"t{n}" for n in range(23)} == {Message.loads(d.text).ref.id for d in taken}


async def test_many_messages_are_sent_at_once(seams: Seams, url: str) -> None:
    await seams.queue.send_all(url, [message(n) for n in range(23)], "tenant")

    texts = set()
    async with asyncio.timeout(60):
        while len(texts) < 23:
            texts |= {delivery.text for delivery in await receive(seams, url)}
    assert texts == {message(n).dumps() for n in range(23)}
    await seams.queue.send_all(url, [], "tenant")


async def test_a_receive_brings_no_more_than_asked(seams: Seams, url: str) -> None:
    for number in range(5):
        await seams.queue.send(url, message(number), "tenant")

    assert len(await receive(seams, url, limit=2)) <= 2


async def test_a_waiting_receive_is_woken_by_a_message(seams: Seams, url: str) -> None:
    empty = (await seams.queue_maker.make("empty"))["default"]
    unwoken = asyncio.create_task(receive(seams, empty, wait=20))
    waiting = asyncio.create_task(receive(seams, url, wait=20))
    await asyncio.sleep(0.2)

    await seams.queue.send(url, message(), "tenant")
    await asyncio.wait({waiting, unwoken}, return_when=asyncio.FIRST_COMPLETED)

    assert not unwoken.done()  # Its wait is as long, and began before.
    unwoken.cancel()
    (delivery,) = await waiting
    assert message() == Message.loads(delivery.text)


async def test_depth_tells_waiting_from_running(seams: Seams, url: str) -> None:
    for number in range(3):
        await seams.queue.send(url, message(number), "tenant")
    await receive(seams, url, limit=1)

    depth = await seams.queue.depth(url)

    assert (2, 1) == (depth.waiting, depth.running)


async def test_each_tier_of_each_model_has_a_queue_of_its_own(seams: Seams) -> None:
    made = [await seams.queue_maker.make(model) for model in ("a/b", "a-b", "a b", "a/b")]

    assert made[0] == made[3]
    assert 12 == len({url for urls in made for url in urls.values()})
    assert all(set(QUEUE_TIERS) == set(urls) for urls in made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"v": 1}',
        '{"v": 99, "task": "m#t", "body": "{}"}',
        '{"v":1,"task":3,"body":"x"}',
        '{"v":1,"task":"m#t","body":5}',
        '{"v":2,"task":"m#t","body":"{}"}',
        '{"v":2,"task":"m#t","base64":"é"}',
        '{"v":2,"task":"m#t","base64":"a"}',
        "[" * 100_000,
    ],
)
def test_a_strangers_message_is_told_from_ours(text: str) -> None:
    with pytest.raises(UnreadableMessage):
        Message.loads(text)


@pytest.mark.parametrize("size", [10, 50_000, 65_000, 150_000, 190_000, 196_000, 197_000, 400_000])
@pytest.mark.parametrize("letter", ["a", '"', "é", "字", "😀"])
def test_whether_a_message_fits_is_told_as_it_is_written(size: int, letter: str) -> None:
    one = Message(ref=REF, body=(letter * (size // len(letter.encode()))).encode())

    assert (len(one.dumps()) <= 192 * 1024) is one.fits(192 * 1024)


def test_a_message_is_of_a_later_version_only_where_earlier_releases_could_not_serve_it() -> None:
    of_json, of_bytes = Message(ref=REF, body=b"{}"), Message(ref=REF, body=b"x", is_json=False)
    beside = Message(ref=REF, body_key="k", is_json=False)

    assert '{"v": 1, "task": "m-0#t1", "body": "{}"}' == of_json.dumps()
    assert '{"v": 2, "task": "m-0#t1", "base64": "eA=="}' == of_bytes.dumps()
    assert beside == Message.loads(beside.dumps())


@pytest.mark.parametrize("size", [0, 1, 700, 749, 750, 5000])
def test_whether_bytes_fit_is_told_as_they_are_written(size: int) -> None:
    one = Message(ref=REF, body=b"\xff" * size, is_json=False)

    assert one.fits(1000) == (len(one.dumps()) <= 1000)
