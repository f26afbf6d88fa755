"""Starts functions on an emulator of AWS, and sees that they keep what they must not tell."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from inferline.aws.api.client import AwsClient
from inferline.aws.provision import provision
from inferline.settings import Settings
from tests.support import emulators, runtime_api
from tests.support.cloud import Cloud
from tests.support.runtime_api import Function


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    with emulators.running("ministack") as url:
        yield url


@pytest.fixture
async def cloud(emulator: str) -> AsyncIterator[Cloud]:
    settings = Settings(stack=f"t{uuid.uuid4().hex[:8]}", endpoint_url=emulator)
    async with AwsClient(settings.region, emulator) as client:
        await provision(client, settings)
        yield Cloud(settings, client)


@pytest.fixture
def function(cloud: Cloud) -> Iterator[Callable[..., Function]]:
    """Start functions; at the end, check their logs for what must not be there."""
    with ExitStack() as stack:
        started: list[Function] = []

        def start(name: str, **environ: str) -> Function:
            handler = f"functions.{name}.handler"
            running = runtime_api.running(handler, cloud.environ | environ)
            started.append(stack.enter_context(running))
            return started[-1]

        yield start
        output = "".join(one.output for one in started)
    for secret in cloud.secrets:
        assert secret not in output
