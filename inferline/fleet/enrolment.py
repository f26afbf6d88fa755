"""
Enrolment: how a provider joins, stays and leaves, as JSON over HTTPS.

``POST /v1/providers`` takes an `Enrolment` and answers with a `Grant`; sent again every
``settings.enrol_seconds`` it is also the provider's heartbeat. ``DELETE /v1/providers/{id}``
leaves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Protocol

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from inferline.fleet.registry import TWIN, Model
from inferline.names import NAME
from inferline.tasks.task import Tier

MODELS_MAX: Final = 200
SLOTS_MAX: Final = 100_000
#: More than any machine makes.
TOKENS_PER_SECOND_MAX: Final = 1e9
#: Longer than any task takes: thirty years.
TASK_SECONDS_MAX: Final = 1e9
#: The largest date and length of a model, in whatever unit: every JSON parser can hold it.
WHOLE_MAX: Final = 2**53
REASON_CHARS_MAX: Final = 200


def _number(value: object) -> object:
    """Refuse a JSON string or boolean, which pydantic would make a number of."""
    if isinstance(value, str | bool):
        raise ValueError("should be a number")
    return value


#: No character that controls a terminal, where operators read these texts, and none that changes
#: their direction or can't be seen.
PRINTABLE: Final = (
    r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
)


def _printable(value: str, info: ValidationInfo) -> str:
    """Refuse unprintable characters, with a clearer message than that of a pattern."""
    if not re.fullmatch(PRINTABLE, value):
        message = "`{field}` should have printable characters only"
        raise PydanticCustomError("unprintable", message, {"field": info.field_name})
    return value


#: Distinguishes a process from others.
NONCE: Final = "^[0-9a-z-]{0,64}$"

Printable = Annotated[
    str, AfterValidator(_printable), Field(json_schema_extra={"pattern": PRINTABLE})
]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
#: As a provider is listed, which is another name for the earlier of two processes.
ListedName = Annotated[str, Field(pattern=f"^{NAME.pattern}({TWIN}[0-9a-z-]{{0,8}})?$")]
STRICT_NUMBER: Final = BeforeValidator(_number)
Whole = Annotated[int, STRICT_NUMBER]
Real = Annotated[float, STRICT_NUMBER]
Flag = Annotated[bool, Field(strict=True)]


class OfferedModel(BaseModel):
    """A model that the provider's backend serves, with what the backend says of it."""

    id: Name
    owned_by: Printable = Field(default="inferline", max_length=128)
    created: Whole = Field(default=0, ge=0, le=WHOLE_MAX)
    #: Tokens.
    context_length: Annotated[int, Field(ge=1, le=WHOLE_MAX), STRICT_NUMBER] | None = None


class ToldSpeed(BaseModel):
    """The speed of one task of a model at the provider's backend."""

    #: Mean time a task takes, seconds.
    task_seconds: Real = Field(gt=0, le=TASK_SECONDS_MAX)
    #: Output tokens a second while a task runs; 0 if the backend reports none.
    tokens_per_second: Real = Field(default=0.0, ge=0, le=TOKENS_PER_SECOND_MAX)


class Enrolment(BaseModel):
    """A provider's description of itself."""

    id: Name
    #: Distinguishes this process from others with its id; the one with the larger began later.
    #: Empty in earlier releases.
    nonce: str = Field(default="", pattern=NONCE)
    version: Printable = Field(max_length=64)
    #: Tasks that it can run at the same time, and tasks that it runs now.
    slots: Whole = Field(ge=0, le=SLOTS_MAX)
    running: Whole = Field(default=0, ge=0, le=SLOTS_MAX)
    healthy: Flag = True
    #: Mean time a task takes at its backend, seconds; 0 before the first.
    service_seconds: Real = Field(default=0.0, ge=0, le=TASK_SECONDS_MAX)
    #: Output tokens a second over its last minute; 0 if its backend reports none.
    tokens_per_second: Real = Field(default=0.0, ge=0, le=TOKENS_PER_SECOND_MAX)
    #: The reason why it takes no work; empty if it does.
    reason: Printable = Field(default="", max_length=REASON_CHARS_MAX)
    models: list[OfferedModel] = Field(max_length=MODELS_MAX)
    #: By model, of those that it has run.
    speeds: dict[Name, ToldSpeed] = Field(
        default_factory=dict,
        max_length=MODELS_MAX,
        json_schema_extra={"additionalProperties": False},
    )
    #: True if it needs credentials: it has none, they expire soon, or its models have changed.
    credentials: Flag = True
    #: True if it takes tasks of dedicated models, with lent credentials; earlier releases don't.
    takes_reserved: Flag = False
    #: True if it takes tasks of the tier `batch`: earlier releases know neither them nor the tier.
    takes_batches: Flag = False


class Credentials(BaseModel):
    """AWS credentials for the provider's own calls. Never logged: `repr` hides them."""

    access_key: str = Field(repr=False)
    secret_key: str = Field(repr=False)
    token: str | None = Field(default=None, repr=False)
    #: Milliseconds since 1970; None: they do not expire.
    expires_ms: int | None = None
    #: How long they last from now on, for a provider with another clock.
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
    #: True if answers may be written packed: gateways of an earlier release can't read them.
    packs: bool = False

    model_config = ConfigDict(from_attributes=True)


class Faster(BaseModel):
    """The providers of a model that run a task of it faster than the one that the grant is for."""

    #: How many times as fast the best of them is.
    times: float = Field(ge=1, allow_inf_nan=False)
    #: How many are slower than the best, but not slower than the grant's own provider; it counts.
    fellows: int = Field(default=1, ge=1)


class Grant(BaseModel):
    """
    Everything a provider needs to take tasks.

    Models have their names in the registry: one dedicated to a tenant stands beside the one for
    all.
    """

    #: Queue URLs per tier, by model.
    queues: dict[str, dict[Tier, str]]
    #: Other providers that serve a model, by its id. Gateways of an earlier release send none.
    peers: dict[str, int] = Field(default_factory=dict)
    #: The faster ones of these, by model; empty if there are none, none are known, or the gateway
    #: is of an earlier release.
    faster: dict[str, Faster] = Field(default_factory=dict)
    tasks_table: str
    bodies_bucket: str
    #: Of the lines and results of batches; empty from gateways of an earlier release.
    files_bucket: str = ""
    region: str
    #: The address of AWS's emulator; empty for AWS itself.
    endpoint_url: str = ""
    #: None: use those lent before, or when there were none the host's own.
    credentials: Credentials | None = None
    terms: Terms
    #: A warning for the provider's operator; gateways of an earlier release send none.
    warning: str = ""

    def without_batches(self) -> Grant:
        """Return the grant of a provider that does not know the tier `batch`."""
        queues = {
            model: {tier: url for tier, url in urls.items() if tier != "batch"}
            for model, urls in self.queues.items()
        }
        return self.model_copy(update={"queues": queues})


class Lender(Protocol):
    """A lender of AWS credentials to providers."""

    def room(self, models: Sequence[str]) -> int:
        """
        Return how many of these models, from the first on, one provider's credentials can name.
        """

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        """
        Return credentials for the work on one or more models and, at AWS, for nothing else.

        Raises InvalidRequest if that can't be done for so many, or Unavailable.
        """
