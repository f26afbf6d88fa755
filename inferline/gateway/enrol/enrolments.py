"""Enrolments: a provider joins, repeats that as its heartbeat, and leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.patterns import matches
from inferline.errors import NotPermitted, Quarantined, Unavailable
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.enrolment import Credentials, Enrolment, Grant, OfferedModel, Terms, ToldSpeed
from inferline.fleet.registry import (
    NOBODY,
    RESOLUTION,
    Model,
    NameTaken,
    ProviderRecord,
    TaskSpeed,
    twin_id,
)
from inferline.gateway.enrol import peers
from inferline.gateway.enrol.offers import Offers
from inferline.gateway.parts import GatewayParts
from inferline.names import base_name

log = logging.getLogger(__name__)

#: The warning about two processes that enrol as one provider.
TWINS: Final = (
    "Two processes enrol as the provider {}: give each a PROVIDER_ID (--id) of its own, or stop "
    "one of them."
)


class Enrolments:
    """Enrols providers and lets them leave."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._offers = Offers(parts.tenants, parts.lender, parts.clock)
        self._aggregator = FleetAggregator(
            parts.registry, parts.settings.registry_seconds, parts.clock.sleep
        )

    async def enrol(self, enrolment: Enrolment, caller: Caller) -> Grant:
        """
        Register a provider and its models. Idempotent: a heartbeat is the same call.

        Reads no row of another provider unless the aggregation is due. Raises NotPermitted,
        Quarantined, Unavailable, and InvalidRequest when no credentials can name so many models.
        """
        check_models(caller, [offered.id for offered in enrolment.models])
        known = await self._parts.catalogue.models()
        offers = await self._offers.of(enrolment, caller)
        models = [await self._model(name, offered, known.get(name)) for name, offered in offers]
        lent = await self._lend(enrolment, models)
        if isinstance(lent, Unavailable) and await self._is_new(enrolment):
            raise lent  # It could not take a task: requests must not wait for it.
        changed = [model for model in models if known.get(model.id) != model]
        await self._parts.registry.put_models(changed)
        provider, before = await self._put(_provider(enrolment, [model.id for model in models]))
        await self._aggregate(provider, before, changed)
        if isinstance(lent, Unavailable):
            raise lent
        grant = await self._grant(provider, models, lent)
        if not enrolment.takes_batches:
            grant = grant.without_batches()
        if self._has_twin(provider, before):
            return grant.model_copy(update={"warning": TWINS.format(enrolment.id)})
        return grant

    async def leave(self, provider_id: str, caller: Caller, nonce: str = "") -> None:
        """Remove a provider; its tasks come back by themselves. Raises NotPermitted."""
        registry = self._parts.registry
        provider = await registry.provider(provider_id)
        names = [base_name(model) for model in provider.models] if provider else ()
        check_models(caller, names)
        is_twin = provider is not None and nonce < provider.nonce
        known_as = twin_id(provider_id, nonce) if nonce and is_twin else provider_id
        await registry.remove_provider(known_as)
        log.info("provider %s left", known_as)
        await self.fleet_changed()

    async def fleet_changed(self, *, has_new_models: bool = False) -> None:
        """Aggregate the fleet now; ``has_new_models`` when models are new or differ."""
        models = await self._aggregator.aggregate_change()
        if models is not None or has_new_models:
            self._parts.catalogue.changed(models)

    async def _is_new(self, enrolment: Enrolment) -> bool:
        return await self._parts.registry.provider(enrolment.id) is None

    async def _model(self, name: str, offered: OfferedModel, known: Model | None) -> Model:
        """Return the model to register, with its queues created if it is new."""
        fields = offered.model_dump()
        if known is None:
            queues = await self._parts.queue_maker.make(name)
        else:
            # A model of an earlier release has no queue for batches.
            is_whole = "batch" in known.queues
            queues = known.queues if is_whole else await self._parts.queue_maker.make(name)
            # Backends without a date send the present one, each time anew.
            fields["created"] = known.created
            fields["context_length"] = fields["context_length"] or known.context_length
        return Model(queues=queues, **fields | {"id": name})

    async def _lend(
        self, enrolment: Enrolment, models: Sequence[Model]
    ) -> Credentials | Unavailable | None:
        """
        Return credentials if the provider wants some, or the error if there are none now.

        The error is not raised: a known provider stays known meanwhile.
        """
        lender = self._parts.lender
        if lender is None or not enrolment.credentials or not models:
            return None
        try:
            return await lender.lend(enrolment.id, models)
        except Unavailable as error:
            return error

    async def _put(self, provider: ProviderRecord) -> tuple[ProviderRecord, ProviderRecord | None]:
        """
        Write a provider, under another name if a later process has its own.

        Returns it as written, and as it was before; None if it was not live. Raises Quarantined.
        """
        registry, twin_name = self._parts.registry, twin_id(provider.id, provider.nonce)
        try:
            before = await registry.put_provider(provider)
        except Quarantined:
            log.warning("refused the provider %s: it is quarantined", provider.id)
            raise
        except NameTaken:
            return await self._put_twin(provider, twin_name)
        if provider.nonce and (before is None or before.nonce != provider.nonce):
            # It may have been known as the earlier of two until the later one left.
            await registry.remove_provider(twin_name)
        return provider, before

    async def _put_twin(
        self, provider: ProviderRecord, twin_name: str
    ) -> tuple[ProviderRecord, ProviderRecord | None]:
        registry = self._parts.registry
        twin = replace(provider, id=twin_name, twin_ms=registry.now_ms())
        before = await registry.put_provider(twin)
        if before is None:
            warning = TWINS.format(provider.id)
            log.warning("%s The earlier one is listed as %s.", warning, twin_name)
        return twin, before

    async def _aggregate(
        self, provider: ProviderRecord, before: ProviderRecord | None, changed: Sequence[Model]
    ) -> None:
        """Aggregate the fleet now if requests are to be judged differently, else when due."""
        if changed or before is None or _capacity(before) != _capacity(provider):
            log.info("provider %s serves %d models", provider.id, len(provider.models))
            await self.fleet_changed(has_new_models=bool(changed))
        else:
            await self._aggregator.aggregate_if_due()

    async def _grant(
        self, provider: ProviderRecord, models: Sequence[Model], lent: Credentials | None
    ) -> Grant:
        settings, known = self._parts.settings, await self._parts.catalogue.models()
        servings = {model.id: known.get(model.id, model).serving or NOBODY for model in models}
        return Grant(
            queues={model.id: dict(model.queues) for model in models},
            peers={name: peers.count(serving, provider) for name, serving in servings.items()},
            faster=peers.faster(servings, provider),
            tasks_table=settings.tasks_table,
            bodies_bucket=settings.bodies_bucket,
            files_bucket=settings.files_bucket,
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            credentials=lent,
            terms=Terms.model_validate(settings).model_copy(update={"packs": True}),
        )

    def _has_twin(self, provider: ProviderRecord, before: ProviderRecord | None) -> bool:
        """Tell if another process enrolled by this provider's name lately."""
        if provider.twin_ms:
            return True
        if before is None or not before.twin_ms:
            return False
        registry = self._parts.registry
        return registry.now_ms() <= before.twin_ms + registry.silent_seconds * 1000


def check_models(caller: Caller, models: Sequence[str]) -> None:
    """Raise NotPermitted unless the caller may serve all ``models``."""
    for model in models:
        if not matches(model, caller.models):
            raise NotPermitted(
                f"This token is not for the model {model!r} but for {', '.join(caller.models)}. "
                "`inferline providers token --models` makes another.",
                param="models",
            )


def _provider(enrolment: Enrolment, models: Sequence[str]) -> ProviderRecord:
    """Return the registry's row of a provider; a dedicated model is as fast as its base model."""
    speeds: Mapping[str, ToldSpeed] = enrolment.speeds
    with_speed = {*speeds, *(name for name in models if base_name(name) in speeds)}
    return ProviderRecord(
        id=enrolment.id,
        nonce=enrolment.nonce,
        # Named twice, a model would be counted twice.
        models=tuple(dict.fromkeys(models)),
        slots=enrolment.slots,
        running=enrolment.running,
        healthy=enrolment.healthy,
        version=enrolment.version,
        service_seconds=_measured(enrolment.service_seconds),
        tokens_per_second=_measured(enrolment.tokens_per_second),
        reason=enrolment.reason,
        speeds={name: _speed(speeds[base_name(name)]) for name in with_speed},
    )


def _speed(speed: ToldSpeed) -> TaskSpeed:
    seconds = max(RESOLUTION, speed.task_seconds)
    return TaskSpeed(seconds, _measured(speed.tokens_per_second))


def _measured(value: float) -> float:
    """Return a measurement, or 0 if it is so small that stores round it to 0."""
    return value if value >= RESOLUTION else 0.0


def _capacity(provider: ProviderRecord) -> tuple[object, ...]:
    """Return what of a provider decides which requests are admitted."""
    return provider.models, provider.slots, provider.healthy
