"""Who sends a request, once that has been established, and what it may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY, matches
from inferline.names import base_name, dedicated_name
from inferline.tasks.task import TIERS, Tier

#: What a key is for: `client` asks for answers, `provider` enrols, `admin` makes keys and takes
#: them back; each does nothing else.
Role = Literal["client", "provider", "admin"]

#: Whose tasks they are where no keys are asked for.
LOCAL_TENANT: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The bearer of a key, or everybody where no keys are asked for."""

    tenant: str
    #: Empty where no keys are asked for.
    key_id: str = ""
    role: Role = "client"
    #: Patterns, as of the shell, of the models that it may ask for, or that it may serve.
    models: tuple[str, ...] = EVERY
    #: The tiers that it may ask for.
    tiers: tuple[Tier, ...] = TIERS
    #: Patterns of the models that anybody of its tenant may ask for.
    tenant_models: tuple[str, ...] = EVERY
    #: Whether its tenant's tasks are for some providers alone.
    is_reserved: bool = False
    #: How much it may ask for itself, and all of its tenant together.
    limits: Limits = UNSET
    tenant_limits: Limits = UNSET

    @property
    def sees_all(self) -> bool:
        """Whether every model is for it, but for those that are reserved for somebody."""
        return not self.is_reserved and "*" in self.models and "*" in self.tenant_models

    def may_use(self, model: str) -> bool:
        """Whether it may ask for a model of that name, should there be one."""
        return matches(model, self.models) and matches(model, self.tenant_models)

    def registry_name(self, model: str) -> str:
        """What the registry calls the model that it calls ``model``."""
        return dedicated_name(model, self.tenant) if self.is_reserved else model

    def shown(self, name: str) -> str | None:
        """What it calls the model that the registry calls ``name``; None for one not for it."""
        model = base_name(name)
        return model if self.registry_name(model) == name and self.may_use(model) else None


#: Everybody who reaches a gateway that asks for no keys.
ANYONE: Final = Caller(tenant=LOCAL_TENANT)
