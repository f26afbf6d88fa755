"""The emulator as started here: one Date, polls that wake, none that outlive their caller."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from inferline.local.emulator.long_poll import KNOWN_VERSION
from tests.support.emulators import answers, free_port, running
from tests.support.pace import within

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request,"
    " SignedHeaders=host, Signature=none"
)


class Emulator:
    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc

    def open(self, target: str, body: dict[str, Any]) -> http.client.HTTPConnection:
        """Return a request of which the answer is still to come."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        headers = {
            "x-amz-target": target,
            "content-type": "application/x-amz-json-1.0",
            "authorization": AUTHORIZATION,
        }
        connection.request("POST", "/", json.dumps(body), headers)
        return connection

    def call(self, target: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = self.open(target, body)
        try:
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def queue(self, name: str) -> str:
        url: str = self.call("AmazonSQS.CreateQueue", {"QueueName": name})["QueueUrl"]
        return url

    def poll(self, queue: str, seconds: int = 20) -> http.client.HTTPConnection:
        return self.open(
            "AmazonSQS.ReceiveMessage", {"QueueUrl": queue, "WaitTimeSeconds": seconds}
        )

    def send(self, queue: str) -> None:
        self.call("AmazonSQS.SendMessage", {"QueueUrl": queue, "MessageBody": "x"})


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with running("ministack") as url:
        yield Emulator(url)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("AmazonSQS.ListQueues", {}),
        ("AmazonSQS.ReceiveMessage", {"QueueUrl": "http://127.0.0.1/000000000000/none"}),
        ("DynamoDB_20120810.ListTables", {}),
        ("DynamoDB_20120810.GetItem", {"TableName": "none", "Key": {}}),
    ],
)
def test_an_answer_carries_one_date(emulator: Emulator, target: str, body: dict[str, Any]) -> None:
    connection = emulator.open(target, body)

    dates = connection.getresponse().msg.get_all("date")
    connection.close()

    assert len(dates or []) == 1


def test_queue_urls_name_an_address(emulator: Emulator) -> None:
    assert emulator.queue("addressed").startswith(f"http://{emulator.address}/")


@pytest.mark.serial
def test_a_poll_wakes_sooner_than_its_tick(emulator: Emulator) -> None:
    queue = emulator.queue("awaited")
    took = []
    for _ in range(11):
        poll = emulator.poll(queue)
        time.sleep(0.13)  # past the first look, in the midst of a tick of 100 ms
        begin = time.monotonic()
        emulator.send(queue)
        assert b"Messages" in poll.getresponse().read()
        took.append(time.monotonic() - begin)
        poll.close()

    assert sorted(took)[5] < within(0.05)


def test_a_poll_whose_caller_has_gone_takes_nothing(emulator: Emulator) -> None:
    queue = emulator.queue("abandoned")
    poll = emulator.poll(queue)
    time.sleep(0.3)

    poll.close()
    time.sleep(0.3)
    emulator.send(queue)
    answer = emulator.call("AmazonSQS.ReceiveMessage", {"QueueUrl": queue, "WaitTimeSeconds": 2})

    assert len(answer["Messages"]) == 1


def test_every_waiter_gets_a_message(emulator: Emulator) -> None:
    queue = emulator.queue("crowded")
    got: list[bytes] = []
    polls = [emulator.poll(queue) for _ in range(20)]
    threads = [
        threading.Thread(target=lambda p=poll: got.append(p.getresponse().read())) for poll in polls
    ]
    for thread in threads:
        thread.start()

    for _ in polls:
        emulator.send(queue)
    for thread in threads:
        thread.join(60)
    for poll in polls:
        poll.close()

    assert len(got) == 20
    assert all(b'"Messages"' in answer for answer in got)


def test_the_installed_release_is_the_one_that_is_sped_up() -> None:
    assert importlib.metadata.version("ministack") == KNOWN_VERSION


def test_state_is_kept_over_a_clean_stop(tmp_path: Any) -> None:
    folder = tmp_path / "state"
    for turn in range(2):
        port = free_port()
        command = [sys.executable, "-m", "inferline.local.emulator", "--port", str(port)]
        process = subprocess.Popen([*command, "--state-dir", str(folder)])
        try:
            assert answers(port, process)
            emulator = Emulator(f"http://127.0.0.1:{port}")
            listed = emulator.call("AmazonSQS.ListQueues", {})
            emulator.queue("kept")
        finally:
            process.terminate()
            process.wait(60)
        assert len(listed.get("QueueUrls", [])) == turn
