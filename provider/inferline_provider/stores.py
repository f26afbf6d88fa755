"""The port to the stores and queues of a provider, opened once the gateway has granted them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from inferline.files.objects import ObjectStore
from inferline.fleet.enrolment import Grant
from inferline.tasks.bodies import BodyStore
from inferline.tasks.queue import TaskQueue
from inferline.tasks.store import TaskStore
from inferline_provider.enrolment import GrantedCredentials


class Stores(Protocol):
    """The stores and queues that a provider works with."""

    @property
    def store(self) -> TaskStore:
        """Return the store of tasks."""

    @property
    def queue(self) -> TaskQueue:
        """Return the queues of messages."""

    @property
    def bodies(self) -> BodyStore:
        """Return the store of large bodies."""

    @property
    def objects(self) -> ObjectStore:
        """Return the store of batches' lines and results."""


OpenStores = Callable[[Grant, GrantedCredentials], AbstractAsyncContextManager[Stores]]
