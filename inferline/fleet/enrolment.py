"""
Enrolment: how a provider joins, stays and leaves, as JSON over HTTPS.

``POST /v1/providers`` takes an `Enrolment` and answers with a `Grant`; sent again every
``settings.enrol_seconds`` it is also the provider's heartbeat. ``DELETE /v1/providers/{id}``
leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Protocol

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from inferline.fleet.registry import TWIN, Model
from inferline.names import NAME
from inferline.tasks.task import Tier

MODELS_MAX: Final = 200
SLOTS_MAX: Final = 100_000
#: More than any machine makes.
TOKENS_PER_SECOND_MAX: Final = 1e9
#: Longer than any task takes: thirty years.
TASK_SECONDS_MAX: Final = 1e9
#: Of a model's date and length, whatever its backend's unit is: all JSON can hold it.
WHOLE_MAX: Final = 2**53
REASON_CHARS_MAX: Final = 200


def _as_told(value: object) -> object:
    """Refuse what JSON has as a text or a truth value and pydantic would make a number of."""
    if isinstance(value, str | bool):
        raise ValueError("should be a number")
    return value


#: Tells a process from others.
NONCE: Final = "^[0-9a-z-]{0,64}$"

Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
#: As a provider is listed, which is another name for the earlier of two processes.
ListedName = Annotated[str, Field(pattern=f"^{NAME.pattern}({TWIN}[0-9a-z-]{{0,8}})?$")]
AS_TOLD: Final = BeforeValidator(_as_told)
Whole = Annotated[int, AS_TOLD]
Real = Annotated[float, AS_TOLD]
Flag = Annotated[bool, Field(strict=True)]


class OfferedModel(BaseModel):
    """A model that the provider's backend serves, with what the backend tells of it."""

    id: Name
    owned_by: str = Field(default="inferline", max_length=128)
    created: Whole = Field(default=0, ge=0, le=WHOLE_MAX)
    #: Tokens.
    context_length: Annotated[int, Field(ge=1, le=WHOLE_MAX), AS_TOLD] | None = None


class ToldSpeed(BaseModel):
    """How fast one task of a model runs at the provider's backend."""

    #: Mean time a task takes, seconds.
    task_seconds: Real = Field(gt=0, le=TASK_SECONDS_MAX)
    #: Output tokens a second while a task runs; 0 where the backend tells none.
    tokens_per_second: Real = Field(default=0.0, ge=0, le=TOKENS_PER_SECOND_MAX)


class Enrolment(BaseModel):
    """What a provider tells of itself."""

    id: Name
    #: Tells this process from others with its id, of which the one with the larger began later;
    #: earlier releases tell none.
    nonce: str = Field(default="", pattern=NONCE)
    version: str = Field(max_length=64)
    #: How many tasks it runs at once, and how many it runs now.
    slots: Whole = Field(ge=0, le=SLOTS_MAX)
    running: Whole = Field(default=0, ge=0, le=SLOTS_MAX)
    healthy: Flag = True
    #: Mean time a task takes at its backend, seconds; 0 before the first.
    service_seconds: Real = Field(default=0.0, ge=0, le=TASK_SECONDS_MAX)
    #: Output tokens a second over its last minute; 0 where its backend does not tell.
    tokens_per_second: Real = Field(default=0.0, ge=0, le=TOKENS_PER_SECOND_MAX)
    #: Why it takes no work; empty when it does.
    reason: str = Field(default="", max_length=REASON_CHARS_MAX)
    models: list[OfferedModel] = Field(max_length=MODELS_MAX)
    #: By model, of those that it has run.
    speeds: dict[Name, ToldSpeed] = Field(
        default_factory=dict,
        max_length=MODELS_MAX,
        json_schema_extra={"additionalProperties": False},
    )
    #: Whether it wants credentials: it has none, or they end soon, or its models have changed.
    credentials: Flag = True
    #: Whether it takes tasks of reserved models, with lent credentials; earlier releases don't.
    takes_reserved: Flag = False


class Credentials(BaseModel):
    """AWS credentials for the provider's own calls. Never logged: `repr` hides them."""

    access_key: str = Field(repr=False)
    secret_key: str = Field(repr=False)
    token: str | None = Field(default=None, repr=False)
    #: Milliseconds since 1970; None: they do not expire.
    expires_ms: int | None = None
    #: How long they last from now on; for who has another clock.
    last_seconds: int | None = None


class Terms(BaseModel):
    """The operator's settings that providers work by; names and units as in `Settings`."""

    lease_seconds: float
    enrol_seconds: float
    flush_seconds: float
    flush_bytes: int
    first_byte_seconds_max: float
    gap_seconds_max: float
    answer_bytes_max: int
    #: Called `orphan_seconds` in JSON; gateways of an earlier release do not send it.
    unread_task_seconds: float = Field(
        default=60.0,
        validation_alias=AliasChoices("orphan_seconds", "unread_task_seconds"),
        serialization_alias="orphan_seconds",
    )
    cancel_seconds: float = 0.4
    first_event_seconds_max: float = 5.0
    busy_seconds_max: float = 30.0
    #: Whether answers may be written packed: gateways of an earlier release can't read them.
    packs: bool = False

    model_config = ConfigDict(from_attributes=True)


class Faster(BaseModel):
    """Those providers of a model that run a task of it in less time than the one that is told."""

    #: How many times as fast the best of them is.
    times: float = Field(ge=1, allow_inf_nan=False)
    #: How many are slower than that one, but not than the one that is told, which is counted.
    fellows: int = Field(default=1, ge=1)


class Grant(BaseModel):
    """
    Everything a provider needs to take tasks. Models are called as the registry calls them: one
    that is reserved for a tenant stands beside the one that is for all.
    """

    #: Queue URLs per tier, by model.
    queues: dict[str, dict[Tier, str]]
    #: How many other providers serve a model, by its id. Gateways of an earlier release tell none.
    peers: dict[str, int] = Field(default_factory=dict)
    #: Who of these is faster, by model; none where nobody is, or nobody knows, or the gateway is
    #: of an earlier release.
    faster: dict[str, Faster] = Field(default_factory=dict)
    tasks_table: str
    bodies_bucket: str
    region: str
    #: Where AWS is, if not at AWS.
    endpoint_url: str = ""
    #: None: use those lent before, or when there were none the host's own.
    credentials: Credentials | None = None
    terms: Terms
    #: What whoever operates the provider should hear; gateways of an earlier release tell nothing.
    warning: str = ""


class Lender(Protocol):
    """Lends providers credentials for their work."""

    def room(self, models: Sequence[str]) -> int:
        """How many of these models, from the first on, one provider's credentials can name."""

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        """
        Credentials for the work on one or more models and, at AWS, for nothing else.

        Raises InvalidRequest when it can't be for so many, or Unavailable.
        """
