"""What API Gateway asks of an authorizer, and the policies that it is answered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.accounts.caller import Caller, Role
from inferline.accounts.keys import KEY_HEADERS, shown_key

#: Where providers enrol and leave, below a stage, under every prefix that the routes have.
PROVIDER_ROUTES: Final = ("POST/*providers", "DELETE/*providers/*")
#: What else stands between a stage and a route's own address.
_PREFIXES: Final = ("", "v1/", "api/", "api/v1/")
#: Where administrators manage keys. A star stands for slashes too: a model may be called `keys`.
ADMIN_ROUTES: Final = tuple(
    f"{verb}/{prefix}{path}"
    for prefix in _PREFIXES
    for verb, path in (("GET", "keys"), ("POST", "keys"), ("POST", "keys/*"), ("DELETE", "keys/*"))
)
_ALLOWED: Final[Mapping[Role, Sequence[str]]] = {
    "client": ("*",),
    "provider": PROVIDER_ROUTES,
    "admin": ADMIN_ROUTES,
}


def shown(event: Mapping[str, Any]) -> str:
    """The key that a request shows, empty for none. Raises NotAuthenticated for several."""
    headers: dict[str, list[str]] = event.get("multiValueHeaders") or {
        name: [value] for name, value in (event.get("headers") or {}).items()
    }
    told = [values for name, values in headers.items() if name.lower() in KEY_HEADERS]
    return shown_key([value for values in told for value in values])


def policy(caller: Caller, method_arn: str) -> dict[str, Any]:
    """
    What ``caller`` may do, in a form that holds for every method, because it is cached for all.

    The context goes to the functions; its values have to be strings.
    """
    stage = "/".join(method_arn.split("/")[:2])
    statements = [_statement("Allow", stage, _ALLOWED[caller.role])]
    if caller.role == "client":
        statements.append(_statement("Deny", stage, (*PROVIDER_ROUTES, *ADMIN_ROUTES)))
    return {
        "principalId": caller.key_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": {
            "keyId": caller.key_id,
            "role": caller.role,
            "tenant": caller.tenant,
            "models": " ".join(caller.models),
            "tiers": " ".join(caller.tiers),
            "tenantModels": " ".join(caller.tenant_models),
            "reserved": "yes" if caller.is_reserved else "no",
            **_limits(caller),
        },
    }


def _limits(caller: Caller) -> dict[str, str]:
    """The limits that were set; most callers have none of their own."""
    told = {"limits": caller.limits.text(), "tenantLimits": caller.tenant_limits.text()}
    return {name: text for name, text in told.items() if text}


def _statement(effect: str, stage: str, routes: Sequence[str]) -> dict[str, Any]:
    resources = [f"{stage}/{route}" for route in routes]
    return {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resources}
