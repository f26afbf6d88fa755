"""The control routes: models, providers, health and enrolment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from operator import itemgetter
from typing import Annotated

from fastapi import APIRouter, Query, Response

from inferline import __version__
from inferline.accounts.caller import Caller
from inferline.fleet.enrolment import NONCE, Enrolment, Grant, ListedName
from inferline.fleet.registry import NOBODY, TWIN, Model, ProviderRecord, Snapshot
from inferline.gateway.enrol.enrolments import TWINS
from inferline.gateway.errors import ERRORS
from inferline.gateway.routes.access import ClientCaller, ProviderCaller
from inferline.gateway.routes.dependencies import Parts, ProviderEnrolments
from inferline.gateway.routes.objects import (
    Health,
    ModelList,
    ModelObject,
    ProviderList,
    ProviderObject,
)
from inferline.validation.output_rules import MEANINGS

#: The routes for clients, which have keys.
client_router = APIRouter(tags=["control"], responses=ERRORS)
#: The routes for providers, which have tokens.
provider_router = APIRouter(tags=["control"], responses=ERRORS)
#: The routes for everybody.
public_router = APIRouter(tags=["control"], responses=ERRORS)


@client_router.get("/models", summary="List the models")
async def list_models(
    caller: ClientCaller,
    parts: Parts,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> ModelList:
    """
    List the models that the key may use, each with OpenAI's and Anthropic's fields, its context
    length and its number of live providers: all of them, or a page of `limit` after or before one.
    """
    models = await parts.catalogue.models()
    named = ((caller.visible_name(name), model) for name, model in models.items())
    every = sorted(((name, model) for name, model in named if name), key=itemgetter(0))
    if after_id is not None:
        every = [each for each in every if each[0] > after_id]
    if before_id is not None:
        every = [each for each in every if each[0] < before_id]
    page = every[:limit]
    if limit is not None and before_id is not None and after_id is None:
        page = every[-limit:]
    data = [_model_object(name, model) for name, model in page]
    return ModelList(data=data, has_more=len(page) < len(every))


@client_router.get("/models/{model_id:path}", summary="Get a model")
async def get_model(model_id: str, caller: ClientCaller, parts: Parts) -> ModelObject:
    """Return the same fields of one model."""
    return _model_object(model_id, await parts.catalogue.asked(model_id, caller))


@public_router.get("/health", summary="Check the gateway's health")
async def get_health(parts: Parts) -> Health:
    """Return 200 when the registry answers, else 503."""
    fleet = await parts.catalogue.fleet()
    return Health(version=__version__, models=fleet.models, providers=fleet.providers)


@client_router.get("/providers", summary="List the live providers")
async def list_providers(caller: ClientCaller, parts: Parts) -> ProviderList:
    """
    List the live providers of the models that the key may use, each with its last heartbeat and
    its age in seconds, and the quarantined providers.
    """
    snapshot = await parts.catalogue.snapshot()
    providers = provider_objects(snapshot, parts.store.now_ms())
    return ProviderList(data=visible_to(caller, providers))


@provider_router.post("/providers", summary="Enrol a provider; repeat it as a heartbeat")
async def enrol(
    enrolment: Enrolment, caller: ProviderCaller, enrolments: ProviderEnrolments
) -> Grant:
    """
    Return the queues of the provider's models, created where missing, and everything else that it
    needs to pull tasks.
    """
    return await enrolments.enrol(enrolment, caller)


@provider_router.delete(
    "/providers/{provider_id:path}", summary="Remove a provider", status_code=204
)
async def leave(
    provider_id: ListedName,
    caller: ProviderCaller,
    enrolments: ProviderEnrolments,
    nonce: Annotated[str, Query(pattern=NONCE)] = "",
) -> Response:
    """
    Remove a provider that stops. Idempotent; its tasks come back by themselves. `nonce` is the one
    of its enrolment.
    """
    await enrolments.leave(provider_id, caller, nonce)
    return Response(status_code=204)


def _model_object(name: str, model: Model) -> ModelObject:
    return ModelObject(
        id=name,
        created=model.created,
        owned_by=model.owned_by,
        context_length=model.context_length,
        providers=(model.serving or NOBODY).providers,
    )


def provider_objects(snapshot: Snapshot, now_ms: int) -> list[ProviderObject]:
    """Return all live and all quarantined providers by name, with the registry's model names."""
    quarantined = [provider for provider in snapshot.silent if provider.quarantined_ms]
    shared_names = {name.partition(TWIN)[0] for name in snapshot.providers if TWIN in name}
    providers = [
        _provider_object(provider, now_ms, shared_names)
        for provider in (*snapshot.providers.values(), *quarantined)
    ]
    return sorted(providers, key=lambda provider: provider.id)


def _provider_object(
    provider: ProviderRecord, now_ms: int, shared_names: Collection[str]
) -> ProviderObject:
    """Return a provider as clients see it; ``shared_names`` are used by two processes each."""
    values, name = asdict(provider), provider.id.partition(TWIN)[0]
    values["warning"] = TWINS.format(name) if name in shared_names else ""
    if provider.quarantined_ms:
        reason = f"It is quarantined for {MEANINGS[provider.breach]}."
        values |= {"healthy": False, "reason": reason}
    ago = round(max(0, now_ms - provider.seen_ms) / 1000, 1)
    return ProviderObject(**values, seen_seconds_ago=ago, quarantined=provider.quarantined_ms > 0)


def visible_to(caller: Caller, providers: Iterable[ProviderObject]) -> list[ProviderObject]:
    """Return the providers of models that a caller may use, with the caller's model names."""
    visible = []
    for provider in providers:
        models = [own for name in provider.models if (own := caller.visible_name(name))]
        if models or not provider.models:
            visible.append(provider.model_copy(update={"models": models}))
    return visible
