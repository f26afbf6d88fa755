"""Enrolment at the gateway: joining, staying and leaving, over HTTPS."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final, Self
from urllib.parse import quote

from inferline.background import Backoff, Wake
from inferline.clock import Clock
from inferline.fleet.enrolment import Credentials, Enrolment, Grant
from inferline.http.connections import Connections
from inferline.http.errors import HttpError
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.names import base_name

log = logging.getLogger(__name__)

CALL_SECONDS_MAX: Final = 30.0
#: For the call that leaves; the gateway would notice the silence by itself.
LEAVE_SECONDS_MAX: Final = 5.0
#: The first and the longest pause after a failed enrolment, seconds.
PAUSES: Final = Backoff(1.0, 30.0)
#: Enrolments vary by up to this share, so that providers do not come all at once.
JITTER_SHARE: Final = 0.1
#: Lent credentials are renewed when this share of their life is over.
RENEW_SHARE: Final = 2 / 3
RENEW_SECONDS_MIN: Final = 1.0
#: The least time between two enrolments, however much changes.
APART_SECONDS: Final = 0.2
#: Between two log lines with the gateway's warning.
WARN_SECONDS: Final = 600.0


#: The error code of a quarantined provider.
QUARANTINED: Final = "provider_quarantined"


class GatewayUnreachable(Exception):
    """The gateway did not answer, or can't now. Trying again may help."""


class EnrolmentRefused(Exception):
    """The gateway refused the enrolment. Trying the same again won't help."""


class ProviderQuarantined(EnrolmentRefused):
    """The gateway has quarantined this provider for bad answers, until an operator lifts that."""


class GrantedCredentials:
    """
    The AWS credentials that the gateway has lent, and when to ask it for others.

    Their life is a duration, measured by this machine's monotonic clock, so that the two sides'
    clocks need not agree.
    """

    def __init__(self, clock: Clock, *, own: bool = False) -> None:
        #: None: the host's own are to be used.
        self.lent: Credentials | None = None
        #: Whether the host's own are used in any case.
        self.own = own
        #: Called when AWS has refused them as expired.
        self.on_expired: Callable[[], None] = lambda: None
        self._clock = clock
        self._requested = False
        #: Models of the last grant, and of the grant that these credentials came with.
        self._granted: frozenset[str] = frozenset()
        self._opened: frozenset[str] = frozenset()
        self._renew_at = inf

    def ask(self, models: Iterable[str]) -> bool:
        """Say whether to request some: there are none, they end soon, or are for other models."""
        changed = set(map(base_name, self._opened)) != set(models) or self.is_behind
        self._requested = not self.own and (self.lent is None or not self.due_seconds or changed)
        return self._requested

    @property
    def is_behind(self) -> bool:
        """Return True if the last grant has models that these credentials are not for."""
        return not self.own and self._granted != self._opened

    def open(self, model: str) -> bool:
        """Say whether these credentials should open a model's queues."""
        return self.own or model in self._opened

    def take(self, grant: Grant) -> None:
        """Use the credentials of a grant, if requested; without any, the host's own are used."""
        self._granted = frozenset(grant.queues)
        if not self._requested:
            return
        self.lent, self._requested = grant.credentials, False
        self._opened = self._granted
        seconds = self.lent.last_seconds if self.lent else None
        life = inf if seconds is None else max(RENEW_SECONDS_MIN, seconds * RENEW_SHARE)
        self._renew_at = self._clock.monotonic() + life

    @property
    def due_seconds(self) -> float:
        """Return the time until new ones must be requested; infinite for never."""
        return max(0.0, self._renew_at - self._clock.monotonic())

    def expired(self) -> None:
        """Request new ones now: AWS refused these as expired."""
        if self.lent is not None and self.due_seconds:
            self._renew_at = self._clock.monotonic()
            self.on_expired()


class GatewayClient:
    """A client of the gateway's provider routes; a context manager."""

    def __init__(
        self,
        base_url: str,
        token: str = "",
        proxies: Proxies = NO_PROXIES,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._url = f"{base_url}/v1/providers"
        # Of two processes with one id, the later has the larger nonce, if their clocks are right.
        self._nonce = f"{int(wall() * 1000):013d}-{secrets.token_hex(4)}"
        self._headers = {"User-Agent": "inferline", "Accept-Encoding": "identity"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        # Enrolments are seconds apart: a kept connection is as often dead as alive.
        self._connections = Connections(
            connect_seconds=CALL_SECONDS_MAX, idle_seconds=0, proxies=proxies
        )

    async def __aenter__(self) -> Self:
        """Open the connections."""
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connections."""
        await self._connections.__aexit__(*exc_info)

    async def enrol(self, enrolment: Enrolment) -> Grant:
        """Join, or stay. Raises GatewayUnreachable, EnrolmentRefused or ProviderQuarantined."""
        document = enrolment.model_copy(update={"nonce": self._nonce}).model_dump_json().encode()
        status, body = await self._call("POST", self._url, document, CALL_SECONDS_MAX)
        if 200 <= status < 300:
            try:
                return Grant.model_validate_json(body)
            except ValueError as error:
                raise GatewayUnreachable("its answer is no grant") from error
        reason = f"it answered {status}"
        if 400 <= status < 500 and status not in (404, 408, 425, 429):
            code, message = _error(body.decode(errors="replace"))
            refused = ProviderQuarantined if code == QUARANTINED else EnrolmentRefused
            raise refused(f"{reason}: {message}")
        raise GatewayUnreachable(reason)

    async def leave(self, provider_id: str) -> None:
        """Leave. Raises GatewayUnreachable."""
        address = f"{self._url}/{quote(provider_id, safe='')}?nonce={self._nonce}"
        await self._call("DELETE", address, b"", LEAVE_SECONDS_MAX)

    async def _call(
        self, method: str, url: str, body: bytes, seconds_max: float
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **self._headers}
        try:
            async with asyncio.timeout(seconds_max):
                response = await self._connections.send(
                    method, url, headers, body, silence_seconds=seconds_max
                )
                return response.status, await response.read()
        except HttpError as error:
            why = f"{type(error).__name__}: {error}".rstrip(".")
            raise GatewayUnreachable(f"no answer: {why}") from error
        except TimeoutError as error:
            raise GatewayUnreachable(f"no answer in {seconds_max:g} s") from error


class Enroller:
    """The loop of enrolments: one a period, and one at once when something has changed."""

    def __init__(
        self,
        gateway: GatewayClient,
        clock: Clock,
        report: Callable[[], Enrolment],
        on_grant: Callable[[Grant], None],
        due_seconds: Callable[[], float] = lambda: inf,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._report = report
        self._on_grant = on_grant
        #: The longest time to the next enrolment, unless the last one failed.
        self._due_seconds = due_seconds
        self._wake = Wake(clock)
        self._warned_at = -inf

    def changed(self) -> None:
        """Enrol soon: the report has changed."""
        self._wake.set()

    async def join(self) -> Grant:
        """Enrol for the first time, for as long as it takes. Raises EnrolmentRefused."""
        failures = 0
        while True:
            try:
                return self._warned(await self._gateway.enrol(self._report()))
            except GatewayUnreachable as error:
                pause = PAUSES.seconds(failures)
                log.warning("Waiting for the gateway: %s. pause_seconds=%d", error, pause)
            await self._clock.sleep(_jittered(pause))
            failures += 1

    async def run(self, enrol_seconds: float) -> None:
        """
        Enrol for ever. While the gateway is away the work goes on: the old grant still holds.

        Raises ProviderQuarantined.
        """
        failures = 0
        while True:
            pause = min(enrol_seconds, self._due_seconds())
            if failures:
                pause = min(enrol_seconds, PAUSES.seconds(failures - 1))
            await self._wait(_jittered(pause))
            try:
                grant = self._warned(await self._gateway.enrol(self._report()))
            except ProviderQuarantined:
                raise
            except (GatewayUnreachable, EnrolmentRefused) as error:
                failures += 1
                log.warning("The gateway did not take the enrolment: %s", error)
                continue
            failures, enrol_seconds = 0, grant.terms.enrol_seconds
            self._on_grant(grant)

    def _warned(self, grant: Grant) -> Grant:
        """Return the grant; log its warning, but not each time."""
        now = self._clock.monotonic()
        if grant.warning and now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            log.warning("%s", grant.warning)
        return grant

    async def _wait(self, seconds: float) -> None:
        """Return after `seconds`, or soon when something has changed."""
        await self._clock.sleep(APART_SECONDS)
        await self._wake.wait(max(0.0, seconds - APART_SECONDS))


def _jittered(seconds: float) -> float:
    return seconds * (1 + random.uniform(-JITTER_SHARE, JITTER_SHARE))


def _error(text: str) -> tuple[Any, str]:
    """Return the code and the message of the gateway's error, short enough for a log line."""
    try:
        error = json.loads(text)["error"]
        return error.get("code"), str(error["message"])[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, text[:300]
