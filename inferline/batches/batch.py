"""
A batch: requests in a file, run when there is room, and its changes of status.

    validating ──▶ in_progress ──▶ finalizing ──▶ completed
        │  │            │  │            (also from cancelling: cancelled; past its window: expired)
        │  └▶ failed    │  └▶ finalizing ──▶ expired
        └───────────────┴──▶ cancelling ──▶ cancelled

The names and their meaning are OpenAI's. Every change is one conditional write of the whole row:
whoever saw an older version has to read it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
TERMINAL: Final = frozenset({"failed", "completed", "expired", "cancelled"})

#: What a batch's lines may ask for. OpenAI has no rerank and no score.
ENDPOINTS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
    "/v1/score",
)


@dataclass(frozen=True, slots=True)
class LineError:
    """A reason why a batch failed validation."""

    code: str
    message: str
    #: Number of the line in the file, from 1, blank lines counted; None: it concerns the file.
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch's row. Dates are milliseconds since 1970 by AWS's clock; 0: not reached."""

    id: str
    tenant: str
    #: The key that created it; "" without keys. The batch runs on when that is revoked.
    key_id: str = ""
    status: BatchStatus = "validating"
    endpoint: str
    input_file_id: str
    #: As the client wrote it, such as "24h".
    completion_window: str
    metadata: Mapping[str, str] | None = None
    #: How long its files are kept, seconds from their creation.
    output_seconds_kept: int
    created_ms: int
    #: When the window ends.
    expires_ms: int
    in_progress_ms: int = 0
    finalizing_ms: int = 0
    completed_ms: int = 0
    failed_ms: int = 0
    expired_ms: int = 0
    cancelling_ms: int = 0
    cancelled_ms: int = 0
    #: The model of its lines, as clients call it, and its slug, to which its shards belong.
    model: str = ""
    slug: str = ""
    shards: int = 0
    #: Lines, and those done as the shards last said, at ``counted_ms``.
    total: int = 0
    completed: int = 0
    failed: int = 0
    counted_ms: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[LineError, ...] = ()
    output_file_id: str = ""
    error_file_id: str = ""
    #: Until when one process validates or finalizes it; others leave it alone.
    worker_until_ms: int = 0
    #: Raised by every write.
    version: int = 0

    @property
    def is_terminal(self) -> bool:
        """Return whether it has ended."""
        return self.status in TERMINAL

    @property
    def input_tokens(self) -> int:
        """Return the tokens that backends have read, whatever their API calls them."""
        return self._tokens("input_tokens", "prompt_tokens")

    @property
    def output_tokens(self) -> int:
        """Return the tokens that backends have written, whatever their API calls them."""
        return self._tokens("output_tokens", "completion_tokens")

    def _tokens(self, *names: str) -> int:
        return sum(self.usage.get(name, 0) for name in names)

    @property
    def undone(self) -> int:
        """Return how many lines have no result yet."""
        return self.total - self.completed - self.failed


class BatchStore(Protocol):
    """A store of batches. Methods raise `Unavailable` when it does not answer."""

    def now_ms(self) -> int:
        """Return the store's time, milliseconds since 1970."""

    async def create_batch(self, batch: Batch) -> None:
        """Write a new batch, which is live until `save_batch` writes it with a terminal status."""

    async def save_batch(self, batch: Batch) -> Batch | None:
        """
        Write the batch if the row's version is still ``batch.version``, and raise that by one.

        Returns what was written; None if the row has changed since: read it again.
        """

    async def batch(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a tenant's batch; None if it has none of that id. Consistent."""

    async def batches(self, tenant: str, *, after: str = "", limit: int) -> list[Batch]:
        """Return up to ``limit`` batches, the newest first, behind the id ``after``."""

    async def live_batches(self) -> list[tuple[str, str]]:
        """Return tenant and id of each batch that has not ended; some may just have."""
