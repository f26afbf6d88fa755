"""The control routes: what there is, how it does, and how providers join."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from inferline import __version__
from inferline.accounts.caller import Caller
from inferline.accounts.keys import KeyStore
from inferline.accounts.patterns import matches
from inferline.accounts.rate_counters import CounterStore
from inferline.accounts.tenants import TenantStore
from inferline.errors import NotPermitted, Quarantined, Unavailable
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.enrolment import (
    NONCE,
    Credentials,
    Enrolment,
    Grant,
    Lender,
    ListedName,
    Terms,
    ToldSpeed,
)
from inferline.fleet.registry import (
    NOBODY,
    RESOLUTION,
    TWIN,
    Model,
    NameTaken,
    Provider,
    QueueMaker,
    Registry,
    Snapshot,
    TaskSpeed,
    twin_id,
)
from inferline.gateway.enrol import peers
from inferline.gateway.enrol.offers import Offers
from inferline.gateway.errors import ERRORS
from inferline.gateway.routes.access import Access, ClientCaller, ProviderCaller
from inferline.gateway.routes.objects import (
    Health,
    ModelList,
    ModelObject,
    ProviderList,
    ProviderObject,
)
from inferline.gateway.submit.quota import Quotas
from inferline.gateway.submit.submission import Line
from inferline.names import base_name
from inferline.usage.minutes import MinuteLedger
from inferline.usage.usage import UsageStore
from inferline.validation.output_rules import MEANINGS

log = logging.getLogger(__name__)

#: What is said of two processes that enrol as one provider.
TWINS: Final = (
    "Two processes enrol as the provider {}: give each a PROVIDER_ID (--id) of its own, or stop "
    "one of them."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the control routes work on besides the line."""

    line: Line
    registry: Registry
    queue_maker: QueueMaker
    #: Of what enrolled providers sign with; None: they use their host's own.
    lender: Lender | None
    access: Access
    keys: KeyStore
    tenants: TenantStore
    #: What each minute was like.
    minutes: MinuteLedger
    #: What each tenant has used.
    usage: UsageStore
    #: What each key and tenant has used of its limits.
    meters: CounterStore

    census: FleetAggregator = field(init=False)
    offers: Offers = field(init=False)
    quotas: Quotas = field(init=False)

    def __post_init__(self) -> None:
        """Have one of each that remembers: when to count, who the tenants are, what is held."""
        line = self.line
        census = FleetAggregator(self.registry, line.settings.registry_seconds, line.clock.sleep)
        object.__setattr__(self, "census", census)
        object.__setattr__(self, "offers", Offers(self.tenants, self.lender, line.clock))
        object.__setattr__(self, "quotas", Quotas(self.meters, line.settings, line.clock))

    async def enrol(self, told: Enrolment, caller: Caller) -> Grant:
        """
        Make a provider's models known and the provider live. Idempotent: also its heartbeat.

        Of other providers nothing is read, unless the census is due. Raises NotPermitted,
        Quarantined, Unavailable, and InvalidRequest when no credentials can be for so much.
        """
        check_models(caller, [offered.id for offered in told.models])
        known = await self.line.catalogue.models()
        offers = await self.offers.of(told, caller)
        models = [await self._model(name, one.model_dump(), known) for name, one in offers]
        lent = await self._lend(told, models)
        if isinstance(lent, Unavailable) and await self.registry.provider(told.id) is None:
            raise lent  # It could not take a task: who waits for one is not to wait for it.
        changed = [model for model in models if known.get(model.id) != model]
        await self.registry.put_models(changed)
        provider, before = await self._put(_provider(told, [model.id for model in models]))
        if changed or before is None or _offer(before) != _offer(provider):
            log.info("provider %s serves %d models", told.id, len(models))
            await self._count(renewed=bool(changed))
        else:
            await self.census.beat()
        if isinstance(lent, Unavailable):
            raise lent
        grant = await self._grant(provider, models, lent)
        is_twin = provider.twin_ms or (before is not None and self._has_twin(before))
        return grant.model_copy(update={"warning": TWINS.format(told.id)}) if is_twin else grant

    def _has_twin(self, provider: Provider) -> bool:
        """Whether another process enrolled by its name lately."""
        if not provider.twin_ms:
            return False
        silent_ms = self.registry.silent_seconds * 1000
        return self.registry.now_ms() <= provider.twin_ms + silent_ms

    async def _put(self, provider: Provider) -> tuple[Provider, Provider | None]:
        """
        Make a provider live, under another name where a later process has its own.

        Gives it as it is known now, and as it was before; None when it was not live.
        """
        other = twin_id(provider.id, provider.nonce)
        try:
            before = await self.registry.put_provider(provider)
        except Quarantined:
            log.warning("the provider %s is quarantined, and was refused", provider.id)
            raise
        except NameTaken:
            twin = replace(provider, id=other, twin_ms=self.registry.now_ms())
            before = await self.registry.put_provider(twin)
            if before is None:
                log.warning("%s The earlier one is listed as %s.", TWINS.format(provider.id), other)
            return twin, before
        if provider.nonce and (before is None or before.nonce != provider.nonce):
            # It may have been known as the earlier of two until the later one left.
            await self.registry.remove_provider(other)
        return provider, before

    async def _grant(
        self, provider: Provider, models: Sequence[Model], lent: Credentials | None
    ) -> Grant:
        settings, known = self.line.settings, await self.line.catalogue.models()
        served = {model.id: known.get(model.id, model).serving or NOBODY for model in models}
        return Grant(
            queues={model.id: dict(model.queues) for model in models},
            peers={name: peers.count(serving, provider) for name, serving in served.items()},
            faster=peers.faster(served, provider),
            tasks_table=settings.tasks_table,
            bodies_bucket=settings.bodies_bucket,
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            credentials=lent,
            terms=Terms.model_validate(settings).model_copy(update={"packs": True}),
        )

    async def _count(self, *, renewed: bool = False) -> None:
        """Have a change counted; ``renewed``: models are known that were not, or differ."""
        models = await self.census.changed()
        if models is not None or renewed:
            self.line.catalogue.changed(models)

    async def _lend(
        self, told: Enrolment, models: Sequence[Model]
    ) -> Credentials | Unavailable | None:
        """
        Credentials for who wants some, or why there are none now: a provider stays known meanwhile.
        """
        if self.lender is None or not told.credentials or not models:
            return None
        try:
            return await self.lender.lend(told.id, models)
        except Unavailable as error:
            return error

    async def _model(self, name: str, offered: dict[str, Any], known: Any) -> Model:
        there = known.get(name)
        queues = there.queues if there else await self.queue_maker.make(name)
        if there:
            # Backends that have no date tell the present one, each time anew.
            offered["created"] = there.created
            offered["context_length"] = offered["context_length"] or there.context_length
        return Model(queues=queues, **offered | {"id": name})

    async def leave(self, provider_id: str, caller: Caller, nonce: str = "") -> None:
        """A provider goes; what it held comes back by itself. Raises NotPermitted."""
        there = await self.registry.provider(provider_id)
        check_models(caller, [base_name(model) for model in there.models] if there else ())
        is_twin = there is not None and nonce < there.nonce
        known_as = twin_id(provider_id, nonce) if nonce and is_twin else provider_id
        await self.registry.remove_provider(known_as)
        log.info("provider %s left", known_as)
        await self._count()


def _provider(told: Enrolment, models: Sequence[str]) -> Provider:
    """The provider that tells of itself; a task of a reserved model takes as long as any."""
    named = {*told.speeds, *(name for name in models if base_name(name) in told.speeds)}
    return Provider(
        id=told.id,
        nonce=told.nonce,
        # Named twice, a model would be counted twice.
        models=tuple(dict.fromkeys(models)),
        slots=told.slots,
        running=told.running,
        healthy=told.healthy,
        version=told.version,
        service_seconds=_known(told.service_seconds),
        tokens_per_second=_known(told.tokens_per_second),
        reason=told.reason,
        speeds={name: _speed(told.speeds[base_name(name)]) for name in named},
    )


def _speed(told: ToldSpeed) -> TaskSpeed:
    seconds = max(RESOLUTION, told.task_seconds)
    return TaskSpeed(seconds, _known(told.tokens_per_second))


def _known(told: float) -> float:
    """What a provider has measured; so little that stores make 0 of it is as good as nothing."""
    return told if told >= RESOLUTION else 0.0


def _offer(provider: Provider) -> tuple[object, ...]:
    """What of a provider decides which requests are taken."""
    return provider.models, provider.slots, provider.healthy


async def _office(request: Request) -> Office:  # not async, it would be run in a thread
    office: Office = request.app.state.office
    return office


At = Annotated[Office, Depends(_office)]
router = APIRouter(tags=["control"], responses=ERRORS)
#: What providers do, who have tokens.
joining = APIRouter(tags=["control"], responses=ERRORS)
#: What anyone may ask.
public = APIRouter(tags=["control"], responses=ERRORS)


@router.get("/models", summary="List the models")
async def list_models(
    caller: ClientCaller,
    office: At,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> ModelList:
    """
    OpenAI's and Anthropic's fields of each model that the key is for, its context length and how
    many live providers it has; all of them, or a page of `limit` after or before one.
    """
    models = await office.line.catalogue.models()
    shown = ((caller.shown(name), model) for name, model in models.items())
    every = sorted(((name, model) for name, model in shown if name), key=itemgetter(0))
    if after_id is not None:
        every = [one for one in every if one[0] > after_id]
    if before_id is not None:
        every = [one for one in every if one[0] < before_id]
    page = every[:limit]
    if limit is not None and before_id is not None and after_id is None:
        page = every[-limit:]
    data = [_model_object(name, model) for name, model in page]
    return ModelList(data=data, has_more=len(page) < len(every))


@router.get("/models/{model_id:path}", summary="Tell of one model")
async def get_model(model_id: str, caller: ClientCaller, office: At) -> ModelObject:
    """The same of one model."""
    return _model_object(model_id, await office.line.catalogue.asked(model_id, caller))


@public.get("/health", summary="Whether requests can be taken")
async def get_health(office: At) -> Health:
    """200 when the registry answers, else 503."""
    fleet = await office.line.catalogue.fleet()
    return Health(version=__version__, models=fleet.models, providers=fleet.providers)


@router.get("/providers", summary="List the live providers")
async def list_providers(caller: ClientCaller, office: At) -> ProviderList:
    """
    Each provider of a model that the key is for, as it last told of itself, and how many seconds
    ago that was; and those that are quarantined.
    """
    snapshot = await office.line.catalogue.snapshot()
    found = provider_objects(snapshot, office.line.store.now_ms())
    return ProviderList(data=shown_to(caller, found))


@joining.post("/providers", summary="Enrol a provider; repeat it as a heartbeat")
async def enrol(told: Enrolment, caller: ProviderCaller, office: At) -> Grant:
    """Queues for the provider's models, made where missing, and all that it needs to pull tasks."""
    return await office.enrol(told, caller)


@joining.delete("/providers/{provider_id:path}", summary="A provider leaves", status_code=204)
async def leave(
    provider_id: ListedName,
    caller: ProviderCaller,
    office: At,
    nonce: Annotated[str, Query(pattern=NONCE)] = "",
) -> Response:
    """
    Idempotent. The tasks that it held come back by themselves. `nonce` is that of its enrolment.
    """
    await office.leave(provider_id, caller, nonce)
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
    """
    All live providers and all quarantined ones, by name; their models are called as the registry
    calls them.
    """
    refused = [provider for provider in snapshot.silent if provider.quarantined_ms]
    shared = {name.partition(TWIN)[0] for name in snapshot.providers if TWIN in name}
    found = [
        _provider_object(one, now_ms, shared) for one in (*snapshot.providers.values(), *refused)
    ]
    return sorted(found, key=lambda provider: provider.id)


def _provider_object(provider: Provider, now_ms: int, shared: Collection[str]) -> ProviderObject:
    """``shared`` are the names that two processes go by."""
    told, name = asdict(provider), provider.id.partition(TWIN)[0]
    told["warning"] = TWINS.format(name) if name in shared else ""
    if provider.quarantined_ms:
        told |= {"healthy": False, "reason": f"It is quarantined for {MEANINGS[provider.breach]}."}
    ago = round(max(0, now_ms - provider.seen_ms) / 1000, 1)
    return ProviderObject(**told, seen_seconds_ago=ago, quarantined=provider.quarantined_ms > 0)


def shown_to(caller: Caller, providers: Iterable[ProviderObject]) -> list[ProviderObject]:
    """The providers of models that are for a caller, and of these what it calls them."""
    found = []
    for provider in providers:
        models = [name for one in provider.models if (name := caller.shown(one))]
        if models or not provider.models:
            found.append(provider.model_copy(update={"models": models}))
    return found


def check_models(caller: Caller, models: Sequence[str]) -> None:
    """Raise NotPermitted unless the caller may serve all ``models``."""
    for model in models:
        if not matches(model, caller.models):
            raise NotPermitted(
                f"This token is not for the model {model!r} but for {', '.join(caller.models)}. "
                "`inferline providers token --models` makes another.",
                param="models",
            )
