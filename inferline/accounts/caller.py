"""The caller: who sends a request, once its key has been checked, and which models it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY, matches
from inferline.names import base_name, dedicated_name
from inferline.tasks.task import TIERS, Tier

#: The use of a key: `client` makes requests, `provider` enrols, `admin` makes and revokes
#: keys; each does nothing else.
Role = Literal["client", "provider", "admin"]

#: The tenant of all tasks where no keys are required.
LOCAL_TENANT: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The owner of a key, or everybody where no keys are required."""

    tenant: str
    #: Empty where no keys are required.
    key_id: str = ""
    role: Role = "client"
    #: Patterns, as of the shell, of the models that it may ask for, or that it may serve.
    models: tuple[str, ...] = EVERY
    #: The tiers that it may ask for.
    tiers: tuple[Tier, ...] = TIERS
    #: Patterns of the models that anybody of its tenant may ask for.
    tenant_models: tuple[str, ...] = EVERY
    #: True if only some providers may have its tenant's tasks.
    is_reserved: bool = False
    #: The limits of the key, and of its tenant's keys together.
    limits: Limits = UNSET
    tenant_limits: Limits = UNSET

    @property
    def sees_all(self) -> bool:
        """Return True if every model is for it, except models dedicated to other tenants."""
        return not self.is_reserved and "*" in self.models and "*" in self.tenant_models

    def may_use(self, model: str) -> bool:
        """Return True if it may ask for a model of that name, whether or not one exists."""
        return matches(model, self.models) and matches(model, self.tenant_models)

    def registry_name(self, model: str) -> str:
        """Return the registry's name for the model that the caller calls ``model``."""
        return dedicated_name(model, self.tenant) if self.is_reserved else model

    def shown(self, name: str) -> str | None:
        """Return the caller's name for a model of the registry; None if it may not use it."""
        model = base_name(name)
        return model if self.registry_name(model) == name and self.may_use(model) else None


#: The caller at a gateway that requires no keys.
ANYONE: Final = Caller(tenant=LOCAL_TENANT)
