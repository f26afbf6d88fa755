"""The routes for administrators: create, rotate and revoke keys and providers' tokens."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inferline.accounts.caller import LOCAL_TENANT, Role
from inferline.accounts.issuing import Issuer
from inferline.accounts.keys import OVERLAP_SECONDS, OVERLAP_SECONDS_MAX, Key, new_key
from inferline.accounts.limits import LIMIT_MAX, Limits
from inferline.accounts.patterns import EVERY, PATTERN, check
from inferline.fleet.enrolment import STRICT_NUMBER, Name
from inferline.gateway.errors import ERRORS
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import AdminCaller
from inferline.gateway.routes.dependencies import Parts
from inferline.gateway.routes.objects import KeyList, KeyObject, LimitsObject, ShownKey
from inferline.tasks.task import TIERS, Tier

log = logging.getLogger(__name__)

#: The roles of the keys managed here. Administrators' keys are created and revoked only with AWS
#: credentials: a stolen one can't create another that outlives it.
ROLES: Final[tuple[Role, ...]] = ("client", "provider")
EXPIRES_SECONDS_MAX: Final = 100 * 365 * 24 * 3600

#: As the documentation has it; `check` judges them.
ModelPattern = Annotated[str, Field(json_schema_extra={"pattern": f"^{PATTERN.pattern}$"})]
#: The same of what `_of_its_role` asks for.
_ROLES_DIFFER: Final[list[Any]] = [
    {"properties": {"role": {"const": "client"}}},
    {
        "properties": {
            "role": {"const": "provider"},
            "tenant": False,
            "tiers": False,
            "limits": False,
        },
        "required": ["role", "models"],
    },
]


Number = Annotated[int, Field(ge=0, le=LIMIT_MAX), STRICT_NUMBER]


class NewLimits(BaseModel):
    """A key's limits. 0: no limit; null: the limit of the gateway's settings."""

    requests_per_minute: Number | None = None
    tokens_per_minute: Number | None = None
    tokens_per_day: Number | None = None
    concurrent_requests: Number | None = None

    model_config = ConfigDict(extra="forbid")


class NewKey(BaseModel):
    """A key to create. Unknown fields are refused: a misspelt scope would not restrict the key."""

    role: Literal["client", "provider"] = "client"
    #: The key's name.
    name: Name
    #: The tenant that owns a client's key; by default the key's name.
    tenant: Name | None = None
    #: Patterns of the models that it may use, or serve; a provider's token must name them.
    models: Annotated[tuple[ModelPattern, ...], Field(json_schema_extra={"minItems": 1})] = EVERY
    #: The tiers that it may use.
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1, max_length=len(TIERS))] = TIERS
    #: How much it may use.
    limits: NewLimits = NewLimits()
    #: Seconds until it expires; null: never.
    expires_seconds: Annotated[int, Field(gt=0, le=EXPIRES_SECONDS_MAX), STRICT_NUMBER] | None = (
        None
    )

    model_config = ConfigDict(extra="forbid", json_schema_extra={"anyOf": _ROLES_DIFFER})

    @field_validator("models")
    @classmethod
    def _usable(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        return check(models)

    @model_validator(mode="after")
    def _of_its_role(self) -> Self:
        given = self.model_fields_set
        clients = {"tenant", "tiers", "limits"}
        if self.role == "provider" and ("models" not in given or given & clients):
            raise ValueError("a provider's token has models, and no tenant, tiers or limits")
        return self


class Rotation(BaseModel):
    """Options of a rotation."""

    #: How long its old secret stays valid.
    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_MAX), STRICT_NUMBER] = (
        OVERLAP_SECONDS
    )

    model_config = ConfigDict(extra="forbid")


router = APIRouter(prefix="/keys", tags=["keys"], responses=ERRORS)


@router.get("", summary="List the keys")
async def list_keys(
    parts: Parts, role: Annotated[Literal["client", "provider"] | None, Query()] = None
) -> KeyList:
    """List all keys or those of a role, oldest first. Invalid keys stay listed for thirty days."""
    now_ms = parts.registry.now_ms()
    keys = await Issuer(parts.keys, (role,) if role else ROLES).listed()
    return KeyList(data=[_key_object(key, now_ms, used_ms) for key, used_ms in keys])


@router.post("", summary="Create a key")
async def create_key(
    new: NewKey, caller: AdminCaller, parts: Parts, response: Response
) -> ShownKey:
    """Create a key. Its text, `key`, is returned here and never again."""
    now_ms, seconds = parts.registry.now_ms(), new.expires_seconds
    key, text = new_key(
        new.role,
        new.name,
        tenant=LOCAL_TENANT if new.role == "provider" else new.tenant or new.name,
        models=new.models,
        tiers=new.tiers,
        limits=Limits(**new.limits.model_dump()),
        now_ms=now_ms,
        expires_ms=None if seconds is None else now_ms + seconds * 1000,
    )
    await parts.keys.put_key(key)
    log.info("the key %s was made with the key %s", key.id, caller.key_id)
    return _shown(key, text, parts, response)


@router.post("/{key_id}/rotate", summary="Rotate a key")
async def rotate_key(
    key_id: str,
    caller: AdminCaller,
    parts: Parts,
    response: Response,
    rotation: Annotated[Rotation | None, Body()] = None,
) -> ShownKey:
    """
    Give a key a new secret; id and scopes stay. The new text is returned here and never again. The
    old secret stays valid for `overlap_seconds`, by default a day.
    """
    seconds = (rotation or Rotation()).overlap_seconds
    issuer = Issuer(parts.keys, ROLES)
    key, text = await issuer.rotate(key_id, parts.registry.now_ms(), seconds)
    log.info("the key %s was rotated with the key %s", key.id, caller.key_id)
    return _shown(key, text, parts, response)


@router.delete("/{key_id}", summary="Revoke a key")
async def revoke_key(key_id: str, caller: AdminCaller, parts: Parts) -> KeyObject:
    """Revoke a key. Idempotent. It is refused within a minute."""
    now_ms = parts.registry.now_ms()
    key = await Issuer(parts.keys, ROLES).revoke(key_id, now_ms)
    log.info("the key %s was revoked with the key %s", key.id, caller.key_id)
    return _key_object(key, now_ms)


def _shown(key: Key, text: str, parts: GatewayParts, response: Response) -> ShownKey:
    """Return a key with its text, which no cache on the way may store."""
    response.headers["cache-control"] = "no-store"
    fields = _key_object(key, parts.registry.now_ms())
    return ShownKey(**fields.model_dump(), key=text)


def _key_object(key: Key, now_ms: int, used_ms: int | None = None) -> KeyObject:
    has_old = key.old_until_ms is not None and key.old_until_ms > now_ms
    return KeyObject(
        id=key.id,
        role=key.role,
        name=key.name,
        tenant=key.tenant,
        models=list(key.models),
        tiers=list(key.tiers),
        limits=LimitsObject(**asdict(key.limits)),
        state=key.validity(now_ms),
        created=key.created_ms // 1000,
        expires=_seconds(key.expires_ms),
        revoked=_seconds(key.revoked_ms),
        old_secret_until=_seconds(key.old_until_ms) if has_old else None,
        last_used=_seconds(used_ms),
    )


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
