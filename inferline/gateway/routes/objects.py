"""What the gateway's own answers look like, for the code and for the OpenAPI page alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, computed_field

from inferline.accounts.caller import Role
from inferline.accounts.keys import Validity
from inferline.gateway.errors import ErrorObject
from inferline.tasks.task import State, Tier
from inferline.usage.usage import RequestOutcome

#: The last that a date of RFC 3339 can name, seconds since 1970; backends may tell of any.
_LAST_SECOND: Final = 253_402_300_799


class ModelObject(BaseModel):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    #: Seconds since 1970.
    created: int
    owned_by: str
    #: Tokens; null when no provider told.
    context_length: int | None
    #: How many live and healthy providers serve it.
    providers: int
    # The rest is what Anthropic's SDKs read, of what is above.
    type: Literal["model"] = "model"
    lifecycle: Literal["active"] = "active"

    @computed_field
    def display_name(self) -> str:
        """Return the model's id."""
        return self.id

    @computed_field
    def created_at(self) -> datetime:
        """Return when it was made, as RFC 3339 has it; the epoch where nobody knows."""
        is_date = 0 <= self.created <= _LAST_SECOND
        return datetime.fromtimestamp(self.created if is_date else 0, UTC)

    @computed_field
    def max_input_tokens(self) -> int | None:
        """Return the context length."""
        return self.context_length


class ModelList(BaseModel):
    """All models, or those that were asked for."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
    #: Whether there are more, in the direction that was asked for.
    has_more: bool = False

    @computed_field
    def first_id(self) -> str | None:
        """Return the first one's id."""
        return self.data[0].id if self.data else None

    @computed_field
    def last_id(self) -> str | None:
        """Return the last one's id."""
        return self.data[-1].id if self.data else None


class QueueObject(BaseModel):
    """One queue: the tasks of a model in a tier, about so many."""

    object: Literal["queue"] = "queue"
    model: str
    tier: Tier
    waiting: int
    running: int
    providers: int
    slots: int


class QueueList(BaseModel):
    """All queues."""

    object: Literal["list"] = "list"
    data: list[QueueObject]


class ProviderObject(BaseModel):
    """A live provider as it last reported."""

    object: Literal["provider"] = "provider"
    id: str
    models: list[str]
    slots: int
    running: int
    healthy: bool
    version: str
    #: Mean time that a task takes at its backend; 0 before the first.
    service_seconds: float
    seen_seconds_ago: float
    #: Output tokens a second over its last minute; 0 where its backend does not tell.
    tokens_per_second: float
    #: Why it takes no work; empty when it does.
    reason: str
    #: What its operator should mend, such as a name that two providers go by; empty for nothing.
    warning: str
    #: Whether it is refused for what it wrote; then `reason` says what that was.
    quarantined: bool


class ProviderList(BaseModel):
    """All live providers."""

    object: Literal["list"] = "list"
    data: list[ProviderObject]


class LimitsObject(BaseModel):
    """Limits of a key. 0 is no limit; null: the gateway's settings decide."""

    requests_per_minute: int | None = None
    #: Of prompt and answer together.
    tokens_per_minute: int | None = None
    #: Of a day of UTC.
    tokens_per_day: int | None = None
    #: How many may be under way at once.
    concurrent_requests: int | None = None


class KeyObject(BaseModel):
    """A key or a provider's token, without its secret. Dates are seconds since 1970."""

    id: str
    object: Literal["key"] = "key"
    role: Role
    name: str
    tenant: str
    models: list[str]
    tiers: list[Tier]
    limits: LimitsObject
    state: Validity
    created: int
    #: Null: never.
    expires: int | None
    revoked: int | None
    #: Until when the secret before the last rotation works; null when it does not.
    old_secret_until: int | None
    #: Within an hour; null: not in the last year, or not yet.
    last_used: int | None


class KeyList(BaseModel):
    """All keys of a role."""

    object: Literal["list"] = "list"
    data: list[KeyObject]


class ShownKey(KeyObject):
    """A key with its text, which is told once."""

    key: str


class TaskObject(BaseModel):
    """A task as it stands."""

    id: str
    object: Literal["task"] = "task"
    state: State
    model: str
    tier: Tier
    #: Milliseconds since 1970.
    created_ms: int
    deadline_ms: int
    #: How long it waited until its newest attempt began; null before the first.
    queue_ms: int | None
    #: The number of the newest attempt; 0 before the first.
    attempt: int
    provider: str | None
    #: HTTP status of the backend's answer, once there is one.
    status: int | None
    #: Tokens, as the backend reported them.
    usage: dict[str, int] | None
    #: Why there is no answer.
    error: ErrorObject | None
    #: The answer of a task that is DONE, unless it is a stream: that has a route of its own.
    result: Any = None


class QueueOverview(QueueObject):
    """The same of one queue, with the age of the oldest task that waits, and whose those are."""

    #: Null when none waits.
    oldest_seconds: float | None
    #: How many tenants have waiting tasks, the share (0 to 1) of the one with the most, and how
    #: many are of the tenant that asks. Of the tasks that were looked at: of many, those that end
    #: first.
    tenants: int
    largest_share: float
    yours: int


class Percentiles(BaseModel):
    """Times, milliseconds, within a tenth; null when there were none."""

    p50: int | None
    p95: int | None
    p99: int | None


class FiguresObject(BaseModel):
    """Requests that ended in some time, and how long those without an error took."""

    requests: int
    #: How many failed, by the error's code.
    errors: dict[str, int]
    answer_bytes: int
    #: Tokens that the backends say they read and wrote, where they do.
    input_tokens: int
    output_tokens: int
    #: Until the first bytes of a stream.
    first_token_ms: Percentiles
    #: Until an answer's last byte.
    total_ms: Percentiles
    #: Until a provider took the task.
    queue_ms: Percentiles


class MinuteObject(FiguresObject):
    """One minute."""

    #: When it began, seconds since 1970.
    start: int
    #: How long the oldest task that waited in it had waited, within a tenth; null when none did.
    oldest_seconds: float | None


class ModelFigures(FiguresObject):
    """One model in the hour; its name is empty for requests that named none that exists."""

    model: str


class HourObject(BaseModel):
    """The last sixty minutes, the present one included."""

    total: FiguresObject
    #: Those that were asked for.
    models: list[ModelFigures]
    #: All sixty, oldest first.
    minutes: list[MinuteObject]
    #: Calls to AWS that gateways made, by service and operation: what requests cost.
    aws_calls: dict[str, int]


class OverviewObject(BaseModel):
    """Overview: queues, providers and the last hour."""

    object: Literal["overview"] = "overview"
    #: When it was so, seconds since 1970.
    at: int
    version: str
    #: A provider that is not heard of for so long is no longer live.
    silent_seconds: float
    queues: list[QueueOverview]
    providers: list[ProviderObject]
    hour: HourObject


class UsageObject(BaseModel):
    """Sums over ended requests; the first six fields are set only when grouped by them."""

    object: Literal["usage"] = "usage"
    tenant: str | None = None
    #: The key's id; empty where no keys are asked for.
    key: str | None = None
    model: str | None = None
    #: The provider of the last attempt; empty without one.
    provider: str | None = None
    #: In UTC: `2026-11-27T03:00Z` and `2026-11-27`.
    hour: str | None = None
    day: str | None = None
    requests: int
    #: By the LLM server, with a status below 400 or from 400 on.
    answered: int
    refused: int
    failed: int
    cancelled: int
    expired: int
    attempts: int
    #: As the LLM servers told them.
    input_tokens: int
    output_tokens: int
    #: Until the last attempt began, and from then to the end.
    queue_seconds: float
    run_seconds: float
    #: The share in the gateways' calls to AWS, by the time that requests were under way.
    aws_calls: int


class UsageList(BaseModel):
    """Usage in some time. Times are seconds since 1970."""

    object: Literal["list"] = "list"
    since: int
    until: int
    #: Requests that ended later are not in it yet.
    counted_until: int
    data: list[UsageObject]


class RequestObject(BaseModel):
    """One request that has ended."""

    object: Literal["request"] = "request"
    #: Its `x-request-id`.
    id: str
    #: Seconds since 1970.
    ended: int
    tenant: str
    key: str
    model: str
    provider: str
    outcome: RequestOutcome
    #: HTTP status of the LLM server's answer; 0 without one.
    status: int
    attempts: int
    queue_seconds: float
    run_seconds: float
    input_tokens: int
    output_tokens: int


class RequestList(BaseModel):
    """The last requests, the last first."""

    object: Literal["list"] = "list"
    data: list[RequestObject]


class Health(BaseModel):
    """The gateway can take requests."""

    status: Literal["ok"] = "ok"
    version: str
    models: int
    providers: int
