"""Who sends a request, once that has been established."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

#: What a key is for: `client` asks for answers, `provider` enrols and nothing else.
Role = Literal["client", "provider"]

#: Whose tasks they are where no keys are asked for.
LOCAL_TENANT: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The bearer of a key, or everybody where no keys are asked for."""

    tenant: str
    #: Empty where no keys are asked for.
    key_id: str = ""
    role: Role = "client"
    #: Patterns, as of the shell, of the models that it may serve.
    models: tuple[str, ...] = ("*",)


#: Everybody who reaches a gateway that asks for no keys.
ANYONE: Final = Caller(tenant=LOCAL_TENANT)
