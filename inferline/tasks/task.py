"""
A task: one client request waiting for, or getting, an answer, and the moves it may make.

                 claim            finish
    QUEUED ───────────▶ RUNNING ──────────▶ DONE
      │                 │  ▲ │ │    fail
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


class State(StrEnum):
    """Where a task stands. Rows leave the table by TTL alone."""

    #: The gateway puts a task here on submit; a claim, a cancel or its deadline takes it out.
    QUEUED = "QUEUED"
    #: A claim puts it here. A handed-back task stays here with a lease that has ended.
    RUNNING = "RUNNING"
    #: The provider put it here: the backend has answered, with whatever status.
    DONE = "DONE"
    #: The provider put it here: no attempt is left, or none could help; or the dead-letter
    #: function: nobody will look at the task again. `error` says why.
    FAILED = "FAILED"
    #: The gateway put it here because its client went away or asked for it; or its provider,
    #: because nobody has read it for long.
    CANCELLED = "CANCELLED"
    #: Whoever first saw its deadline pass put it here.
    EXPIRED = "EXPIRED"

    @property
    def terminal(self) -> bool:
        """Whether nothing can happen to the task any more."""
        return self not in LIVE


LIVE: Final = frozenset({State.QUEUED, State.RUNNING})


@dataclass(frozen=True)
class Move:
    """One legal change of state, and who makes it."""

    name: str
    sources: frozenset[State]
    target: State
    #: Whether only the provider that holds the current attempt may make it.
    fenced: bool
    by: str


CLAIM: Final = Move("claim", LIVE, State.RUNNING, fenced=False, by="provider that took the message")
RENEW: Final = Move("renew", frozenset({State.RUNNING}), State.RUNNING, fenced=True, by="its owner")
HAND_BACK: Final = Move("hand back", RENEW.sources, State.RUNNING, fenced=True, by="its owner")
FINISH: Final = Move("finish", RENEW.sources, State.DONE, fenced=True, by="its owner")
FAIL: Final = Move("fail", RENEW.sources, State.FAILED, fenced=True, by="its owner")
CANCEL: Final = Move("cancel", LIVE, State.CANCELLED, fenced=False, by="gateway, or its provider")
EXPIRE: Final = Move("expire", LIVE, State.EXPIRED, fenced=False, by="who sees the deadline pass")
BURY: Final = Move("bury", LIVE, State.FAILED, fenced=False, by="the dead-letter function")
MOVES: Final = (CLAIM, RENEW, HAND_BACK, FINISH, FAIL, CANCEL, EXPIRE, BURY)

Tier = Literal["priority", "default", "flex"]
#: In order of preference. Each has its own queue for each model.
TIERS: Final[tuple[Tier, ...]] = ("priority", "default", "flex")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """Which task: enough to find its rows."""

    slug: str
    id: str

    @property
    def pk(self) -> str:
        """The partition key; it begins with the model so that credentials can be scoped to it."""
        return f"{self.slug}#{self.id}"

    @classmethod
    def from_pk(cls, pk: str) -> TaskRef:
        """The reference that ``pk`` was made from."""
        found, _, task_id = pk.partition("#")
        return cls(found, task_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The STATE row. Times are milliseconds since 1970 by the clock of AWS, nobody's own."""

    ref: TaskRef
    #: As its client calls it.
    model: str
    tier: Tier
    tenant: str
    #: The id of the key that asked; empty where no keys are asked for, and in older rows.
    key_id: str = ""
    #: The path at the backend, such as ``/v1/chat/completions``.
    path: str
    #: The query that goes with it, and the headers, by name in lower case; empty in older rows. No
    #: content type means JSON. See `inferline.validation.forwarding`.
    query: str = ""
    request_headers: dict[str, str] = field(default_factory=dict)
    #: SHA-256 of the client's body, hex: what was submitted is what is run.
    body_sha256: str
    #: By what a repeat of the request is known, where that is not the body alone; else empty.
    identity: str = ""
    created_ms: int
    deadline_ms: int
    #: The last attempt that may be made. It grows by one for each attempt that does not count,
    #: because the backend was merely busy or the provider drained.
    attempt_limit: int
    #: When the row may be deleted, seconds since 1970.
    ttl: int
    #: The client's trace and its span at the gateway, as W3C's header; empty in older rows.
    traceparent: str = ""
    #: Who reads the answer, and until when without a renewal; "" and 0 where nobody is known to.
    reader: str = ""
    reader_ms: int = 0
    state: State = State.QUEUED
    #: The number of the newest attempt; 0 before the first. It only grows: it fences every write.
    attempt: int = 0
    owner: str = ""
    lease_ms: int = 0
    claimed_ms: int = 0
    #: The lease that the newest claim found lapsed, as `lease_ms`; 0 where none had been held.
    lapsed_ms: int = 0
    #: The providers that can't go on with its answer, separated by blanks.
    unfit: str = ""
    #: What the backend answered, once DONE.
    status: int = 0
    content_type: str = ""
    #: How many chunk rows the answer has, `tail` not counted.
    chunks: int = 0
    #: The last piece of the answer: it rides on the finishing write.
    tail: bytes = b""
    #: What the client is told, once FAILED: ``{"message", "type", "param", "code", "status"}``.
    error: dict[str, Any] = field(default_factory=dict)
    #: Token counts by the backend's own names for them; unproven, as all that a provider writes.
    usage: dict[str, int] = field(default_factory=dict)
    #: Of a failure that the backend tells: `retry-after` and `x-should-retry`, as it sent them.
    headers: dict[str, str] = field(default_factory=dict)
    #: When it ended, 0 before that; whoever ends it writes the time when that write began.
    ended_ms: int = 0

    @property
    def registry_name(self) -> str:
        """What the registry calls its model."""
        is_reserved = self.ref.slug.startswith(DEDICATED_SLUG_PREFIX)
        return dedicated_name(self.model, self.tenant) if is_reserved else self.model

    @property
    def request(self) -> str:
        """What was asked for: the same of a request and its repeat."""
        return f"{self.path} {self.identity or self.body_sha256}"

    @property
    def attempts_left(self) -> int:
        """How many more attempts may be made after the newest one."""
        return self.attempt_limit - self.attempt

    def waits(self, now_ms: int) -> bool:
        """Whether nobody holds it and somebody may: one whose lease has ended waits again."""
        return not self.state.terminal and self.lease_ms < now_ms

    @property
    def queue_ms(self) -> int:
        """How long the task waited until its newest claim, milliseconds."""
        return max(0, self.claimed_ms - self.created_ms)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """How an answer begins; it rides on the first chunk of a stream."""

    status: int
    content_type: str
    provider: str
    queue_ms: int
    #: What precedes the attempt's own chunks, when it continues an answer that others began: their
    #: attempts, and how many chunks of each, in order. Empty when it begins anew.
    after: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive bytes of one attempt's answer. Written once, never changed."""

    ref: TaskRef
    attempt: int
    seq: int
    data: bytes
    #: As its task's: a reader never sees a row that outlived its chunks.
    ttl: int
    head: AnswerHead | None = None


#: The largest piece of an answer in one row, bytes; DynamoDB takes items up to 400 KB.
CHUNK_BYTES_MAX: Final = 64 * 1024
#: The largest piece that rides on the finishing write, bytes.
TAIL_BYTES_MAX: Final = 32 * 1024
