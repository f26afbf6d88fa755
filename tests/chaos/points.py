"""The named points of a task's life, and what may be done there to the process that is at it."""

from __future__ import annotations

from typing import Literal, get_args

from tests.chaos.faults import Point

#: ``kill``: -9. ``stop``: it stands still for longer than a lease, then goes on. ``term``: as an
#: operator ends it.
Deed = Literal["kill", "stop", "term"]
DEEDS: tuple[Deed, ...] = get_args(Deed)

_MESSAGE = b'"ReceiptHandle"'

#: In the order in which a task passes them. Names in -ing: the call has not been made yet.
AT_PROVIDERS = (
    Point("received", "sqs ReceiveMessage", "after", payload=_MESSAGE),
    Point("claiming", "tasks claim", "before"),
    Point("claimed", "tasks claim", "after"),
    Point("chunking:0", "tasks chunks", "before", seq=0),
    Point("chunk:0", "tasks chunks", "after", seq=0),
    Point("chunk:2", "tasks chunks", "after", seq=2),
    Point("chunking:5", "tasks chunks", "before", seq=5),
    Point("chunk:9", "tasks chunks", "after", seq=9),
    Point("renewing", "tasks renew", "before"),
    Point("renewed", "tasks renew", "after"),
    Point("finishing", "tasks finish", "before"),
    Point("finished", "tasks finish", "after"),
    Point("deleted", "sqs DeleteMessageBatch", "after"),
    Point("handed back", "tasks hand back", "after"),
)
AT_GATEWAYS = (
    Point("submitting", "tasks submit", "before"),
    Point("submitted", "tasks submit", "after"),
    Point("sent", "sqs SendMessage", "after"),
    Point("reading", "tasks read", "after", payload=b'"data"'),
    Point("cancelling", "tasks cancel", "before"),
    Point("cancelled", "tasks cancel", "after"),
)
