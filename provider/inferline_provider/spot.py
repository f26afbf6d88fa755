"""Spot interruption notices: EC2 says when it takes an instance away, a reason to drain."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from inferline.clock import Clock
from inferline.http.connections import Connections
from inferline.http.response import Response

log = logging.getLogger(__name__)

#: Between two polls, as AWS advises, seconds.
POLL_SECONDS: Final = 5.0
#: The address is on the instance itself: without a quick answer there is no service.
ANSWER_SECONDS_MAX: Final = 1.0
#: Tries before this host counts as no EC2 instance.
TRIES_MAX: Final = 3
TOKEN_SECONDS: Final = 6 * 3600
#: Shortest time from a notice to the end of the instance, seconds.
NOTICE_SECONDS: Final = 120.0
#: The part of it that is kept to hand back unfinished tasks and to leave, seconds.
MARGIN_SECONDS: Final = 10.0


class SpotWatch:
    """
    A poll of the instance metadata service, version 2, for the end of this instance.

    On a host that has no such service it stops. In a container the service answers only if the
    instance's hop limit is 2 or more.
    """

    def __init__(self, endpoint: str, clock: Clock, now: Callable[[], float]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._clock = clock
        #: Seconds since 1970 by this host's clock, which EC2 keeps right.
        self._now = now
        self._token = ""

    async def notice(self) -> float | None:
        """Return the seconds until the instance ends, once there is a notice; None outside EC2."""
        async with Connections(connect_seconds=ANSWER_SECONDS_MAX, idle_seconds=0) as service:
            if not await self._is_there(service):
                log.debug("There is no EC2 instance metadata service; spot notices are not polled.")
                return None
            while (notice := await self._read(service)) is None:
                await self._clock.sleep(POLL_SECONDS)
            return self._seconds_left(notice)

    async def _is_there(self, service: Connections) -> bool:
        for tried in range(TRIES_MAX):
            if tried:
                await self._clock.sleep(POLL_SECONDS)
            await self._renew_token(service)
            if self._token:
                return True
        return False

    async def _renew_token(self, service: Connections) -> None:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
        try:
            response = await self._ask(service, "PUT", "api/token", headers)
            body = await response.read()
            self._token = body.decode("ascii") if response.status == 200 else ""
        except (OSError, UnicodeError):
            self._token = ""

    async def _read(self, service: Connections) -> dict[str, Any] | None:
        """Return the notice; None while there is none, or the service does not answer."""
        headers = {"X-aws-ec2-metadata-token": self._token}
        try:
            response = await self._ask(service, "GET", "meta-data/spot/instance-action", headers)
            body = await response.read()
            if response.status == 401:
                await self._renew_token(service)
            notice = json.loads(body) if response.status == 200 else None
        except (OSError, ValueError):
            return None
        return notice if isinstance(notice, dict) and notice.get("action") else None

    async def _ask(
        self, service: Connections, method: str, path: str, headers: dict[str, str]
    ) -> Response:
        address = f"{self._endpoint}/latest/{path}"
        return await service.send(method, address, headers, b"", silence_seconds=ANSWER_SECONDS_MAX)

    def _seconds_left(self, notice: dict[str, Any]) -> float:
        try:
            until = datetime.fromisoformat(str(notice.get("time"))).timestamp()
        except ValueError:
            return NOTICE_SECONDS
        return min(NOTICE_SECONDS, max(0.0, until - self._now()))


async def watch(spot: SpotWatch, on_notice: Callable[[float], None]) -> None:
    """Call `on_notice` with the seconds left to drain, once the instance is to end."""
    left = await spot.notice()
    if left is not None:
        seconds = max(0.0, left - MARGIN_SECONDS)
        log.warning("EC2 takes this spot instance away. seconds_left=%d", left)
        on_notice(seconds)
