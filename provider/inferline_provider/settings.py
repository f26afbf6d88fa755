"""What an operator sets at a provider; the gateway sets the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inferline.http.proxies import NO_PROXIES, Proxies


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One provider's settings. Keys and tokens never show in `repr`."""

    #: The gateway's address, without `/v1`.
    base_url: str
    #: The LLM server's address, without `/v1`.
    backend: str
    #: Name of this provider.
    id: str
    token: str = field(default="", repr=False)
    backend_key: str = field(default="", repr=False)
    #: How many tasks run at once; None: as many as are found to be worth it.
    slots: int | None = None
    #: While that is being found, 95 of 100 first tokens are to come within so long.
    first_token_seconds: float = 5.0
    #: Between two looks at the backend's list of models.
    refresh_seconds: float = 60.0
    #: Serve only these, and these where the backend has no list; empty: all that it has.
    models: tuple[str, ...] = ()
    #: Backend's name of a model by the name that clients use.
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: How long running tasks may take to finish after SIGTERM.
    drain_seconds: float = 30.0
    #: Where to look for the notice that a spot instance ends; empty: do not look.
    metadata_endpoint: str = ""
    #: How long one look at an empty queue waits, 1 to 20; a stop waits for it.
    poll_seconds: int = 20
    #: Where AWS is as seen from this host; empty: where the gateway says.
    endpoint_url: str = ""
    #: Use the host's own AWS credentials, such as its instance role, and let none be lent.
    own_credentials: bool = False
    #: The way to the gateway, to AWS and to the backend where they are not on this machine.
    proxies: Proxies = NO_PROXIES
    #: Touched at each enrolment while the backend is well, for who looks after this process.
    alive_file: Path | None = None
    #: Where Prometheus may ask, with 0 for a free port; None: nowhere.
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
