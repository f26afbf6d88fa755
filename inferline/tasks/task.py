"""
A task: one client request that waits for its answer or receives it, and its changes of state.

                 claim            finish
    QUEUED ───────────▶ RUNNING ──────────▶ DONE
      │                 │  ▲ │ │ fail, give up
      │                 │  └─┘ └──────────▶ FAILED
      │ cancel, expire  │ claim, after a lapsed lease or a hand-back
      ├────────────────▶├─▶ CANCELLED, EXPIRED
      │ bury            │ bury, after a lapsed lease or a hand-back
      └────────────────▶└─▶ FAILED

Every move is one conditional write of the STATE row. The moves are listed here; the store makes
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from inferline.names import DEDICATED_SLUG_PREFIX, dedicated_name
from inferline.tasks.shard import Shard


class State(StrEnum):
    """The state of a task. Its rows are deleted by their TTL alone."""

    #: The gateway puts a task here on submit; a claim, a cancel or its deadline takes it out.
    QUEUED = "QUEUED"
    #: A claim puts it here. A task that is handed back stays here with an ended lease.
    RUNNING = "RUNNING"
    #: The provider put it here: the backend has answered, with whatever status.
    DONE = "DONE"
    #: The provider put it here: no attempt is left, or none could help; or the dead-letter
    #: function: its message is dead. `error` says why.
    FAILED = "FAILED"
    #: The gateway put it here because its client left or cancelled it; or its provider, because
    #: nobody has read it for long.
    CANCELLED = "CANCELLED"
    #: The gateway, the sweep or a provider put it here after its deadline.
    EXPIRED = "EXPIRED"

    @property
    def terminal(self) -> bool:
        """Return whether the task has ended."""
        return self not in LIVE


LIVE: Final = frozenset({State.QUEUED, State.RUNNING})


@dataclass(frozen=True, eq=False)  # Each move is one object, so its hash costs nothing.
class Move:
    """One legal change of state."""

    name: str
    sources: frozenset[State]
    target: State
    #: Only the provider that runs the newest attempt may make it.
    fenced: bool = False


_RUNNING: Final = frozenset({State.RUNNING})
#: Made by a provider that received the message.
CLAIM: Final = Move("claim", LIVE, State.RUNNING)
#: The fenced moves are made by the attempt's owner.
RENEW: Final = Move("renew", _RUNNING, State.RUNNING, fenced=True)
HAND_BACK: Final = Move("hand back", _RUNNING, State.RUNNING, fenced=True)
FINISH: Final = Move("finish", _RUNNING, State.DONE, fenced=True)
FAIL: Final = Move("fail", _RUNNING, State.FAILED, fenced=True)
#: Made by a provider whose claim is refused because no attempt is left.
GIVE_UP: Final = Move("give up", _RUNNING, State.FAILED)
#: Made by the gateway, or by the task's provider when nobody reads the answer.
CANCEL: Final = Move("cancel", LIVE, State.CANCELLED)
#: Made by the gateway, the sweep or a provider, after the deadline.
EXPIRE: Final = Move("expire", LIVE, State.EXPIRED)
#: Made by the dead-letter function.
BURY: Final = Move("bury", LIVE, State.FAILED)

Tier = Literal["priority", "default", "flex", "batch"]
#: The tiers that a request may ask for, in order of preference.
TIERS: Final[tuple[Tier, ...]] = ("priority", "default", "flex")
#: All tiers, in order of preference: each has its own queue for each model.
QUEUE_TIERS: Final[tuple[Tier, ...]] = (*TIERS, "batch")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task's model and id: the key of its rows."""

    slug: str
    id: str

    @property
    def pk(self) -> str:
        """Return the partition key. It begins with the model, to which rights are limited."""
        return f"{self.slug}#{self.id}"

    @classmethod
    def from_pk(cls, pk: str) -> TaskRef:
        """Read a reference back from its partition key."""
        slug, _, task_id = pk.partition("#")
        return cls(slug, task_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task, as its STATE row has it. Times are milliseconds since 1970 by AWS's clock."""

    ref: TaskRef
    #: The name that its client used.
    model: str
    tier: Tier
    tenant: str
    #: The id of the client's API key; empty without keys, and in older rows.
    key_id: str = ""
    #: The path at the backend, such as ``/v1/chat/completions``.
    path: str
    #: The query and the headers that are forwarded, by name in lower case; empty in older rows. No
    #: content type means JSON. See `inferline.validation.forwarding`.
    query: str = ""
    request_headers: dict[str, str] = field(default_factory=dict)
    #: SHA-256 of the client's body, hex: the provider checks that it runs that body.
    body_sha256: str
    #: A digest that identifies a repeat of the request, if not by the body alone; else empty.
    identity: str = ""
    created_ms: int
    deadline_ms: int
    #: The number of the last attempt allowed. It grows by one for each attempt that does not count,
    #: because the backend was busy or the provider was draining.
    attempt_limit: int
    #: The date after which the row is deleted, seconds since 1970.
    ttl: int
    #: The client's trace and the gateway's span, as W3C's header; empty in older rows.
    traceparent: str = ""
    #: The reader lease: its owner and its end; "" and 0 if nobody has one.
    reader: str = ""
    reader_ms: int = 0
    state: State = State.QUEUED
    #: The number of the newest attempt; 0 before the first. It only grows: it fences every write.
    attempt: int = 0
    owner: str = ""
    lease_ms: int = 0
    claimed_ms: int = 0
    #: The lapsed lease that the newest claim replaced, as `lease_ms`; 0 for none.
    lapsed_ms: int = 0
    #: The providers that can't continue its answer, separated by blanks.
    unfit: str = ""
    #: The status of the backend's answer, once DONE.
    status: int = 0
    content_type: str = ""
    #: The number of the answer's chunk rows, without `tail`.
    chunks: int = 0
    #: The last bytes of the answer, part of the finishing write.
    tail: bytes = b""
    #: The client's error, once FAILED: ``{"message", "type", "param", "code", "status"}``.
    error: dict[str, Any] = field(default_factory=dict)
    #: Token counts by the backend's names; unproven, like all that a provider writes.
    usage: dict[str, int] = field(default_factory=dict)
    #: The backend's `retry-after` and `x-should-retry` of a failure, as it sent them.
    headers: dict[str, str] = field(default_factory=dict)
    #: The date of its end, 0 before: the time when the write began that ended it.
    ended_ms: int = 0
    #: The lines of a batch that the task runs, and their progress; None for a request. Its owner
    #: writes it with each renewal, hand-back and finish.
    shard: Shard | None = None

    @property
    def registry_name(self) -> str:
        """Return the registry's name of its model."""
        is_reserved = self.ref.slug.startswith(DEDICATED_SLUG_PREFIX)
        return dedicated_name(self.model, self.tenant) if is_reserved else self.model

    @property
    def request(self) -> str:
        """Return a text that is the same for a request and its repeat."""
        return f"{self.path} {self.identity or self.body_sha256}"

    @property
    def attempts_left(self) -> int:
        """Return how many attempts are left after the newest one."""
        return self.attempt_limit - self.attempt

    def waits(self, now_ms: int) -> bool:
        """Return whether it can be claimed: it is queued, or its lease has ended."""
        return not self.state.terminal and self.lease_ms < now_ms

    @property
    def queue_ms(self) -> int:
        """Return how long the task waited until its newest claim, milliseconds."""
        return max(0, self.claimed_ms - self.created_ms)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The beginning of an answer, part of a stream's first chunk."""

    status: int
    content_type: str
    provider: str
    queue_ms: int
    #: If the attempt continues an answer: the attempts that began it, and the number of chunks
    #: of each that come before its own, in order. Empty if it begins anew.
    after: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive bytes of one attempt's answer. Written once, never changed."""

    ref: TaskRef
    attempt: int
    seq: int
    data: bytes
    #: The same as its task's, so that no row outlives its chunks.
    ttl: int
    head: AnswerHead | None = None


#: The most bytes of an answer in one row; DynamoDB takes items up to 400 KB.
CHUNK_BYTES_MAX: Final = 64 * 1024
#: The most bytes of an answer in the finishing write.
TAIL_BYTES_MAX: Final = 32 * 1024
