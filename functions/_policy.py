"""The requests that API Gateway sends to an authorizer, and the policies of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.accounts.caller import Caller, Role
from inferline.accounts.keys import KEY_HEADERS, key_from_headers
from inferline.gateway.prefixes import PREFIXES

#: The routes where providers enrol and leave, below a stage and any prefix.
PROVIDER_ROUTES: Final = ("POST/*providers", "DELETE/*providers/*")
#: The routes for administrators. A star stands for slashes too: a model may be called `keys`.
ADMIN_ROUTES: Final = tuple(
    f"{verb}{prefix}/{path}"
    for prefix in PREFIXES
    for verb, path in (("GET", "keys"), ("POST", "keys"), ("POST", "keys/*"), ("DELETE", "keys/*"))
)
_ALLOWED: Final[Mapping[Role, Sequence[str]]] = {
    "client": ("*",),
    "provider": PROVIDER_ROUTES,
    "admin": ADMIN_ROUTES,
}


def key_from_event(event: Mapping[str, Any]) -> str:
    """Return the key that a request shows, or "". Raises NotAuthenticated for several."""
    headers: dict[str, list[str]] = event.get("multiValueHeaders") or {
        name: [value] for name, value in (event.get("headers") or {}).items()
    }
    keys = [values for name, values in headers.items() if name.lower() in KEY_HEADERS]
    return key_from_headers([value for values in keys for value in values])


def policy(caller: Caller, method_arn: str) -> dict[str, Any]:
    """
    Return the policy of ``caller``. It holds for every method, because it is cached for all.

    Its context goes to the functions.
    """
    stage = "/".join(method_arn.split("/")[:2])
    statements = [_statement("Allow", stage, _ALLOWED[caller.role])]
    if caller.role == "client":
        statements.append(_statement("Deny", stage, (*PROVIDER_ROUTES, *ADMIN_ROUTES)))
    return {
        "principalId": caller.key_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": caller.to_context(),
    }


def _statement(effect: str, stage: str, routes: Sequence[str]) -> dict[str, Any]:
    resources = [f"{stage}/{route}" for route in routes]
    return {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resources}
