"""Where the keys come from that calls are signed with, without ever blocking the event loop."""

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
        """Keys never show in a log or a traceback."""
        return "Keys(...)"


class CredentialSource(Protocol):
    """Anything that knows the keys to use now. Asked before every attempt, so it should cache."""

    async def frozen(self) -> tuple[str, str, str | None]:
        """The access key, the secret key and the session token, that belong together."""

    def expired(self) -> None:
        """AWS says that the keys have expired."""


class StaticCredentials:
    """Keys that stay as they are, such as an emulator's."""

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        self._keys = Keys(access_key, secret_key, token)

    async def frozen(self) -> Keys:
        """The keys given."""
        return self._keys

    def expired(self) -> None:
        """There are no others."""


class ChainCredentials:
    """
    What botocore finds: environment, profile, container, instance role and the rest of its chain.

    ``credentials`` skips the search. Expiring keys are renewed in a thread while calls go on with
    the old ones; only when those are nearly over does a call wait.
    """

    def __init__(self, credentials: Any = None) -> None:
        self._credentials = credentials
        self._keys: Keys | None = None
        self._refresh: asyncio.Task[Keys] | None = None

    async def frozen(self) -> Keys:
        """The current keys. Raises NoCredentialsError or botocore's reason for a failed refresh."""
        if self._keys is None or self._expires_within(_MANDATORY_SECONDS):
            return await asyncio.shield(self._refreshing())
        if self._expires_within(_ADVISORY_SECONDS):
            self._refreshing()
        return self._keys

    def expired(self) -> None:
        """Look again at the next call."""
        self._keys = None

    def _expires_within(self, seconds: float) -> bool:
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(refresh_in=seconds))

    def _refreshing(self) -> asyncio.Task[Keys]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._load_in_thread())
            # A failure nobody waited for shows at the next call.
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _load_in_thread(self) -> Keys:
        self._keys = await asyncio.to_thread(self._load)
        return self._keys

    def _load(self) -> Keys:
        if self._credentials is None:
            if (told := _environment_keys()) is not None:
                return told
            import botocore.session

            self._credentials = botocore.session.get_session().get_credentials()
        if self._credentials is None:
            raise NoCredentialsError
        return Keys(*self._credentials.get_frozen_credentials()[:3])


def _environment_keys() -> Keys | None:
    """
    Keys in the environment that do not expire, such as a Lambda function's.

    They come first in botocore's chain too. Read here, because loading that takes a Lambda function
    a fifth of its start.
    """
    access_key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (access_key and secret_key) or os.environ.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    return Keys(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN"))


class Lent(Protocol):
    """What a gateway has lent, as it stands now."""

    @property
    def lent(self) -> Credentials | None:
        """None: the host's own are to be used."""

    def expired(self) -> None:
        """AWS says that they have expired."""


class LentCredentials:
    """The keys that a gateway has lent, the newest ones; the host's own where it lends none."""

    def __init__(self, lent: Lent, own: CredentialSource | None = None) -> None:
        self._lent = lent
        self._own = own or ChainCredentials()

    async def frozen(self) -> tuple[str, str, str | None]:
        """The current keys. Raises what `ChainCredentials` raises where none are lent."""
        found = self._lent.lent
        if found is None:
            return await self._own.frozen()
        return found.access_key, found.secret_key, found.token

    def expired(self) -> None:
        """Ask whoever they are from for others."""
        (self._own if self._lent.lent is None else self._lent).expired()
