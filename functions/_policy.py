"""What API Gateway asks of an authorizer, and the policies that it is answered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from inferline.caller import Caller

#: Where providers enrol and leave, below a stage, under every prefix that the routes have.
PROVIDER_ROUTES: Final = ("POST/*providers", "DELETE/*providers/*")


def bearer(event: Mapping[str, Any]) -> str:
    """The key that a request shows, empty for none."""
    shown = event.get("authorizationToken")
    if shown is None:
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        shown = headers.get("authorization") or ""
    scheme, _, text = shown.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else shown


def policy(caller: Caller, method_arn: str) -> dict[str, Any]:
    """
    What ``caller`` may do, in a form that holds for every method, because it is cached for all.

    The context goes to the functions; its values have to be strings.
    """
    stage = "/".join(method_arn.split("/")[:2])
    routes = [f"{stage}/{route}" for route in PROVIDER_ROUTES]
    statements = (
        [_statement("Allow", routes)]
        if caller.role == "provider"
        else [_statement("Allow", [f"{stage}/*"]), _statement("Deny", routes)]
    )
    return {
        "principalId": caller.key_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": {
            "keyId": caller.key_id,
            "role": caller.role,
            "tenant": caller.tenant,
            "models": " ".join(caller.models),
        },
    }


def _statement(effect: str, resources: list[str]) -> dict[str, Any]:
    return {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resources}
