"""The caller: who sends a request, once its key has been checked, and which models it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY, matches
from inferline.names import NAME_BYTES_MAX, base_name, dedicated_name
from inferline.tasks.task import TIERS, Tier
from inferline.validation.payload import MODEL_CHARS_MAX

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

    def asked_name(self, model: str) -> str | None:
        """Return the registry's name of a model that it asks for; None if it may not ask for it."""
        is_name = 0 < len(model) <= MODEL_CHARS_MAX and base_name(model) == model
        if not is_name or not self.may_use(model):
            return None
        registry_name = self.registry_name(model)
        return registry_name if len(registry_name.encode()) <= NAME_BYTES_MAX else None

    def visible_name(self, name: str) -> str | None:
        """Return the caller's name for a model of the registry; None if it may not use it."""
        model = base_name(name)
        return model if self.registry_name(model) == name and self.may_use(model) else None

    def to_context(self) -> dict[str, str]:
        """Return the caller as the strings of an authorizer's context; see `from_context`."""
        limits = {"limits": self.limits.text(), "tenantLimits": self.tenant_limits.text()}
        return {
            "keyId": self.key_id,
            "role": self.role,
            "tenant": self.tenant,
            "models": " ".join(self.models),
            "tiers": " ".join(self.tiers),
            "tenantModels": " ".join(self.tenant_models),
            "reserved": "yes" if self.is_reserved else "no",
            # Most callers have no limits of their own.
            **{name: text for name, text in limits.items() if text},
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Caller | None:
        """
        Return the caller that `to_context` wrote; None where no authorizer was asked.

        API Gateway caches a context for a minute, so an earlier release may have written it, which
        knew no tiers, tenants' models or limits.
        """
        if not context.get("keyId"):
            return None
        return cls(
            tenant=context["tenant"],
            key_id=context["keyId"],
            role=context["role"],
            models=tuple(context["models"].split()),
            tiers=tuple(context["tiers"].split()) if "tiers" in context else TIERS,
            tenant_models=tuple(context.get("tenantModels", "*").split()),
            is_reserved=context.get("reserved") == "yes",
            limits=Limits.parse(context.get("limits", "")),
            tenant_limits=Limits.parse(context.get("tenantLimits", "")),
        )


#: The caller at a gateway that requires no keys.
ANYONE: Final = Caller(tenant=LOCAL_TENANT)
