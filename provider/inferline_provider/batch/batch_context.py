"""The parts that the shards of a provider share."""

from __future__ import annotations

from dataclasses import dataclass

from inferline.files.objects import ObjectStore
from inferline_provider.backend.slots import Slots
from inferline_provider.batch.feed import LineFeed, LineServer
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.leases import Leases


@dataclass(frozen=True, kw_only=True)
class BatchContext:
    """The parts that the shards of a provider share; made once."""

    attempts: AttemptContext
    #: Leases of shards.
    leases: Leases
    objects: ObjectStore
    slots: Slots
    feed: LineFeed
    lines: LineServer
