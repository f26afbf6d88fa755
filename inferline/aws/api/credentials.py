"""Sources of the credentials that sign calls. None of them blocks the event loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import NoCredentialsError

if TYPE_CHECKING:  # Pydantic would cost a function that lends nothing a tenth of a second.
    from inferline.fleet.enrolment import Credentials

#: As in botocore: from here on keys are renewed in the background,
_ADVISORY_SECONDS = 15 * 60
#: and from here on no call goes out with the old ones.
_MANDATORY_SECONDS = 10 * 60


class Keys(NamedTuple):
    """One set of credentials; ``token`` is None for those that do not expire."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        """Return no key, so that none gets into a log or a traceback."""
        return "Keys(...)"


class CredentialSource(Protocol):
    """A source of credentials. It is asked before every attempt, so it should cache them."""

    async def frozen(self) -> tuple[str, str, str | None]:
        """Return the access key, the secret key and the session token in use now."""

    def expired(self) -> None:
        """Note that AWS refused the credentials because they have expired."""


class StaticCredentials:
    """A source of keys that never change, such as an emulator's."""

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        self._keys = Keys(access_key, secret_key, token)

    async def frozen(self) -> Keys:
        return self._keys

    def expired(self) -> None:
        pass  # There are no others.


class ChainCredentials:
    """
    The credentials of botocore's chain: environment, profile, container, instance role and more.

    ``credentials`` skips the search. Expiring keys are renewed in a thread while calls go on with
    the old ones. A call waits only when those are about to expire.
    """

    def __init__(self, credentials: Any = None) -> None:
        self._credentials = credentials
        self._keys: Keys | None = None
        self._refresh: asyncio.Task[Keys] | None = None

    async def frozen(self) -> Keys:
        """Return the current keys. Raises NoCredentialsError, or botocore's error of a refresh."""
        if self._keys is None or self._expires_within(_MANDATORY_SECONDS):
            return await asyncio.shield(self._refreshing())
        if self._expires_within(_ADVISORY_SECONDS):
            self._refreshing()
        return self._keys

    def expired(self) -> None:
        self._keys = None  # The next call searches again.

    def _expires_within(self, seconds: float) -> bool:
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(refresh_in=seconds))

    def _refreshing(self) -> asyncio.Task[Keys]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._load_in_thread())
            # If no call waits for a failure, the next call meets it.
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _load_in_thread(self) -> Keys:
        self._keys = await asyncio.to_thread(self._load)
        return self._keys

    def _load(self) -> Keys:
        if self._credentials is None:
            if (keys := _environment_keys()) is not None:
                return keys
            import botocore.session

            self._credentials = botocore.session.get_session().get_credentials()
        if self._credentials is None:
            raise NoCredentialsError
        return Keys(*self._credentials.get_frozen_credentials()[:3])


def _environment_keys() -> Keys | None:
    """
    Read keys from the environment that do not expire, such as a Lambda function's.

    They come first in botocore's chain too. To load that would take a fifth of a Lambda function's
    start.
    """
    access_key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (access_key and secret_key) or os.environ.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    return Keys(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN"))


class Lent(Protocol):
    """The credentials that a gateway lends: they change as it renews them."""

    @property
    def lent(self) -> Credentials | None:
        """Return the newest credentials; None: use the host's own."""

    def expired(self) -> None:
        """Note that AWS refused the credentials because they have expired."""


class LentCredentials:
    """A source of the newest keys that a gateway lends; of the host's own where it lends none."""

    def __init__(self, lent: Lent, own: CredentialSource | None = None) -> None:
        self._lent = lent
        self._own = own or ChainCredentials()

    async def frozen(self) -> tuple[str, str, str | None]:
        credentials = self._lent.lent
        if credentials is None:
            return await self._own.frozen()
        return credentials.access_key, credentials.secret_key, credentials.token

    def expired(self) -> None:
        (self._own if self._lent.lent is None else self._lent).expired()
