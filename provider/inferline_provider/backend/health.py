"""Health of the backend and the models that it serves, checked periodically."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from inferline.background import Wake
from inferline.clock import Clock
from inferline.fleet.enrolment import OfferedModel
from inferline_provider.backend.capacity import UNKNOWN, Room
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.offer import by_hand, offered
from inferline_provider.faults import Fault, HealthCheckFailed, KeyRefused, Unlisted, Unreachable
from inferline_provider.settings import ProviderSettings

log = logging.getLogger(__name__)

#: Between two checks of the backend's health; a failed task brings the next one forward.
CHECK_SECONDS: Final = 3.0
#: The same while it is not healthy.
UNWELL_SECONDS: Final = 1.0
#: The same where the backend has no `/health` and is healthy: its answers and faults say more.
SELDOM_SECONDS: Final = 15.0
#: The shortest time between two checks.
CHECK_SECONDS_MIN: Final = 0.2
#: Time after the backend refused our key before its list of models is tried.
KEY_SECONDS: Final = 30.0
#: Reasons why a provider takes no work, for the overview: never in the backend's words.
SILENT: Final = "Its LLM server does not answer."
UNWELL: Final = "Its LLM server answers the health check with status {}."
REFUSED: Final = "Its LLM server refuses the provider's key."
UNLISTED: Final = "Its LLM server does not list its models."
EMPTY: Final = "Its LLM server has no models."
UNWANTED: Final = "Its LLM server has none of the wanted models."


class BackendHealth:
    """The health, models and capacity of the backend. `on_change` is called when one changes."""

    def __init__(self, backend: BackendClient, settings: ProviderSettings, clock: Clock) -> None:
        self._backend = backend
        self._settings = settings
        self._clock = clock
        self._wake = Wake(clock)
        self._is_doubted = False
        #: Bytes of answers that had come at the last check.
        self._answer_bytes = 0
        #: When a check last saw that more had come.
        self._heard_at = float("-inf")
        self._refused_at: float | None = None
        self._listed_at = float("-inf")
        #: Why the last list had nothing to offer; empty if it had.
        self._empty = EMPTY
        self.on_change: Callable[[], None] = lambda: None
        self.is_healthy = False
        #: Why no work is taken, one of the sentences above; empty when it is.
        self.reason = SILENT
        self.models = self._offered(by_hand(settings.models, settings.aliases))
        slots = settings.slots
        self.room = UNKNOWN if slots is None else Room(slots, slots, "as it was set")

    def doubt(self) -> None:
        """Check soon: a task has failed."""
        self._is_doubted = True
        self._wake.set()

    def refuse_key(self) -> None:
        """Count as unhealthy for a while: the backend refuses our key."""
        self._refused_at = self._clock.monotonic()
        log.error("The backend refuses this provider's key; set OPENAI_API_KEY or --backend-key.")
        self._set(False, self.models, self.room, REFUSED)

    async def run(self) -> None:
        """Check for ever."""
        while True:
            await self._clock.sleep(CHECK_SECONDS_MIN)
            await self._wait()
            await self.check()

    async def _wait(self) -> None:
        """Return when a check is due, or wanted."""
        seconds = CHECK_SECONDS
        if not self.is_healthy:
            seconds = min(UNWELL_SECONDS, CHECK_SECONDS)
        elif self._backend.has_health is False:
            seconds = SELDOM_SECONDS
        await self._wake.wait(seconds)

    async def check(self) -> None:
        """
        Check now, unless answers prove the backend well or the check would disturb it.

        The models are read only when their list is old, or the backend was not healthy.
        """
        now = self._clock.monotonic()
        if self._refused_at is not None and now - self._refused_at < KEY_SECONDS:
            return
        is_heard, is_doubted, self._is_doubted = self._is_heard(), self._is_doubted, False
        flows = now - self._heard_at < CHECK_SECONDS
        if self._backend.is_delicate and (flows or not is_doubted):
            return
        is_proven = is_heard and self.is_healthy and not is_doubted
        if not is_proven and (reason := await self._problem()):
            self._set(False, self.models, self.room, reason)
            return
        if self._backend.is_delicate:
            return
        is_old = now - self._listed_at >= self._settings.refresh_seconds
        if is_old or not self.is_healthy:
            await self._read_models(now)
        else:
            self._set(True, self.models, self.room, self._empty)

    def _is_heard(self) -> bool:
        """Say whether more bytes of answers have come since the last call."""
        before, self._answer_bytes = self._answer_bytes, self._backend.answer_bytes
        if self._answer_bytes == before:
            return False
        self._heard_at = self._clock.monotonic()
        return True

    async def _problem(self) -> str:
        """Return why the backend can't work; empty if it can, or answers and only this is late."""
        try:
            await self._backend.check()
        except HealthCheckFailed as fault:
            return UNWELL.format(fault.status)
        except Fault:
            return "" if self.is_healthy and self._is_heard() else SILENT
        return ""

    async def _read_models(self, now: float) -> None:
        models, room = self.models, self.room
        is_healthy, reason = True, self._empty
        try:
            models, room = await self._list()
            self._listed_at, self._refused_at = now, None
            reason = self._empty
        except Fault as fault:
            log.warning("The backend's models can't be listed: %s", fault)
            if isinstance(fault, KeyRefused) or not self.is_healthy:
                is_healthy, reason = False, _reason(fault)
        self._set(is_healthy, models, room, reason)

    async def _list(self) -> tuple[tuple[OfferedModel, ...], Room]:
        settings = self._settings
        try:
            listed = await self._backend.models()
        except Unlisted:
            if not (listed := by_hand(settings.models, settings.aliases)):
                raise
        models = self._offered(listed)
        self._empty = "" if models else UNWANTED if listed else EMPTY
        if listed and not models:
            log.warning("The backend has none of the wanted models. listed=%d", len(listed))
        if settings.slots is not None:
            return models, self.room
        room = await self._backend.room()
        if room == UNKNOWN and self.is_healthy:
            room = self.room  # The last one holds while it is too busy to answer.
        if room != self.room:
            log.info("Slots: %s. slots=%d", room.reason, room.slots)
        return models, room

    def _offered(self, listed: Sequence[OfferedModel]) -> tuple[OfferedModel, ...]:
        return offered(listed, self._settings.models, self._settings.aliases)

    def _set(
        self, is_healthy: bool, models: tuple[OfferedModel, ...], room: Room, reason: str
    ) -> None:
        before = (self.is_healthy, self.models, self.room, self.reason)
        if is_healthy != self.is_healthy:
            log.log(
                logging.INFO if is_healthy else logging.WARNING,
                "The backend is %s. address=%s",
                "healthy" if is_healthy else "not healthy; nothing is pulled",
                self._settings.backend,
            )
        self.is_healthy, self.models, self.room = is_healthy, models, room
        self.reason = reason
        if before != (is_healthy, models, room, reason):
            self.on_change()


def _reason(fault: Fault) -> str:
    """Return the reason for a fault in reading the backend's models."""
    if isinstance(fault, KeyRefused):
        return REFUSED
    return SILENT if isinstance(fault, Unreachable) else UNLISTED
