"""The named points of a shard's life, and of its batch's, at which a process may end."""

from __future__ import annotations

from tests.chaos.faults import Point

_MESSAGE = b'"ReceiptHandle"'

#: In the order in which a shard passes them. Names in -ing: the call has not been made yet.
AT_PROVIDERS = (
    Point("shard received", "sqs ReceiveMessage", "after", payload=_MESSAGE),
    Point("shard claiming", "tasks claim", "before"),
    Point("shard claimed", "tasks claim", "after"),
    Point("lines read", "s3 GET lines", "after"),
    Point("results writing", "s3 PUT results", "before"),
    Point("results written", "s3 PUT results", "after"),
    Point("committing", "tasks renew", "before"),
    Point("committed", "tasks renew", "after"),
    Point("shard finishing", "tasks finish", "before"),
    Point("shard finished", "tasks finish", "after"),
    Point("shard deleted", "sqs DeleteMessageBatch", "after"),
    Point("shard handed back", "tasks hand back", "after"),
)
AT_GATEWAYS = (
    Point("file written", "s3 PUT file", "after"),
    Point("file listed", "s3 PUT manifest", "after"),
    Point("file described", "registry put file of a tenant", "after"),
    Point("batch creating", "registry put batch", "after"),
    Point("batch saving", "registry put batch of a tenant", "before"),
    Point("batch saved", "registry put batch of a tenant", "after"),
    Point("file read", "s3 GET file", "after"),
    Point("lines written", "s3 PUT lines", "after"),
    Point("shard submitting", "tasks submit", "before"),
    Point("shard submitted", "tasks submit", "after"),
    Point("shard sent", "sqs SendMessage", "after"),
    Point("progress read", "tasks read", "after"),
)
