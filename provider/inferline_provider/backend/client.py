"""HTTP client of the LLM server beside this provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self

from inferline.fleet.enrolment import OfferedModel
from inferline.http.connections import Connections
from inferline.http.errors import CannotConnect, ConnectTimeout, HttpError, Silence
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.http.response import Outlasts, Response
from inferline.validation.forwarding import CONTENT_TYPE, NOTHING
from inferline_provider.backend import capacity, listing
from inferline_provider.backend.capacity import Room
from inferline_provider.backend.trials import Trials
from inferline_provider.faults import (
    BadAnswer,
    BrokenOff,
    Fault,
    HealthCheckFailed,
    KeyRefused,
    SilentTooLong,
    Unlisted,
    Unreachable,
)

#: For every request to the backend that is no task.
QUERY_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 10.0
#: For the question whether it works, while a client waits that has waited for long.
WORKING_SECONDS_MAX: Final = 3.0

_ABSENT: Final = 404
_JSON: Final = {CONTENT_TYPE: "application/json"}
#: The path of an OpenAI-compatible server's API: nearly always the first, else the second.
PREFIXES: Final = ("/v1", "")
#: A refusal that does not say that there is no such route.
_REFUSED: Final = frozenset({401, 403, 408, 429})
#: Statuses of a proxy whose server is gone.
_GONE: Final = frozenset({502, 503, 504})
#: Every LLM server has one of these routes.
_INFERENCE: Final = ("/chat/completions", "/completions", "/embeddings")


class _Absent(BadAnswer):
    """The backend has no such route, or something else than JSON there."""


class BackendClient:
    """
    A client of one LLM server; a context manager.

    It follows no redirects: it goes where the operator said, by the proxies that the operator set,
    and nowhere else. Each call has its own connection: llama.cpp closes those it promised to keep.
    """

    def __init__(self, root: str, key: str = "", proxies: Proxies = NO_PROXIES) -> None:
        self._root = root
        self._headers = {"User-Agent": "inferline", "Accept-Encoding": "identity"}
        self._trials = Trials(self._try)
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(
            connect_seconds=CONNECT_SECONDS_MAX, idle_seconds=0, proxies=proxies, to="the backend"
        )
        self._prefix = PREFIXES[0]
        self._answers: set[Response] = set()
        self._ended_bytes = 0
        self._working: asyncio.Task[bool] | None = None
        #: Whether it has a `/health`; None if not known.
        self.has_health: bool | None = None
        #: Number of requests under way.
        self.running = 0

    async def __aenter__(self) -> Self:
        """Open the connections."""
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connections."""
        await self._connections.__aexit__(*exc_info)

    @property
    def answer_bytes(self) -> int:
        """
        Return the bytes of answers that have come so far: while the number grows the backend is
        alive.
        """
        return self._ended_bytes + sum(answer.received_bytes for answer in self._answers)

    @property
    def is_delicate(self) -> bool:
        """
        Return True while nothing but tasks should be sent: it works, and has no `/health`, which is
        free.

        llama-cpp-python ends the answer under way when somebody asks for its models.
        """
        return self.has_health is False and self.running > 0

    async def models(self) -> list[OfferedModel]:
        """
        Return the models that the backend lists, whatever their names, under `/v1` or without it.

        Tasks then go to the same place. Raises Unlisted where there is no list, and other Faults.
        """
        for prefix in sorted(PREFIXES, key=lambda prefix: prefix != self._prefix):
            try:
                listed = listing.entries(await self._get_json(f"{prefix}/models"))
            except _Absent:
                continue
            if listed is not None:
                self._prefix = prefix
                return [model for entry in listed if (model := listing.model(entry)) is not None]
        await self._find_prefix()
        raise Unlisted("The backend does not list its models.")

    async def _find_prefix(self) -> None:
        """Find where tasks go at a backend without a list: where it has a route for them."""
        for prefix in PREFIXES:
            for route in _INFERENCE:
                async with self._query(prefix + route) as response:
                    # A route for POST alone answers GET with 405.
                    if response.status == 405 or not _is_absent(response.status):
                        self._prefix = prefix
                        return

    async def check(self) -> None:
        """
        Return if the backend can work now, or if it answers at all where it has no `/health`.

        Raises Fault.
        """
        if self.has_health is False:
            return await self._knock()
        async with self._query("/health") as response:
            status = response.status
        self.has_health = not _is_absent(status)
        if self.has_health and status != 200:
            raise HealthCheckFailed(status)
        return None

    async def _knock(self) -> None:
        """Send a request that costs nothing, whatever the answer is. Raises Fault."""
        try:
            async with self._query("/", "HEAD") as response:
                status = response.status
        except Fault:
            self.has_health = None  # Another server may come in its place.
            raise
        if status in _GONE:
            raise HealthCheckFailed(status)

    async def room(self) -> Room:
        """Return how many tasks the backend can run at once."""
        return (
            capacity.of_props(await self._document("/props"))
            or capacity.of_server_info(await self._document("/server_info?config_format=json"))
            or capacity.of_metrics(await self._metrics())
            or capacity.UNKNOWN
        )

    async def waiting(self) -> int | None:
        """Return how many tasks wait inside the backend; None when it does not report it."""
        return capacity.waiting(await self._metrics())

    async def works(self) -> bool:
        """Say whether the backend reports that tasks run in it. Calls at once share one request."""
        if self._working is None:
            self._working = asyncio.create_task(self._works())
            self._working.add_done_callback(self._worked)
        return await asyncio.shield(self._working)

    async def _works(self) -> bool:
        try:
            async with asyncio.timeout(WORKING_SECONDS_MAX):
                count = capacity.working(await self._metrics())
                if count is None:
                    count = capacity.working_of_slots(await self._document("/slots"))
        except TimeoutError:
            return False
        return bool(count)

    def _worked(self, query: asyncio.Task[bool]) -> None:
        self._working = None

    async def _document(self, path: str) -> Any:
        """Return a JSON document about the backend; None for none, or while it is delicate."""
        if self.is_delicate:
            return None
        try:
            return await self._get_json(path)
        except Fault:
            return None

    async def _metrics(self) -> str:
        """Return the backend's Prometheus metrics; empty for none, or while it is delicate."""
        if self.is_delicate:
            return ""
        try:
            async with self._query("/metrics") as response:
                metrics = await response.read() if response.status == 200 else b""
        except Fault:
            return ""
        return metrics.decode(errors="replace")

    async def prefill(self, model: str, text: str, shape: object = None) -> dict[str, bool] | None:
        """Return the fields with which it continues a chat that ends with `text`; see `Trials`."""
        return None if self.is_delicate else await self._trials.prefill(model, text, shape)

    async def can_continue(self, model: str, shape: object) -> bool:
        """
        Say whether it could continue most answers to such a chat at any time. Raises Unreachable.

        One that is delicate can't be asked how while others run.
        """
        return self.has_health is not False and await self._trials.can_continue(model, shape)

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Return the number of tokens in `text`; None without a tokenizer. Raises Unreachable."""
        return await self._trials.count_tokens(model, text)

    async def _try(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a route that the backend may not have; empty for no answer."""
        if self.is_delicate:
            return {}
        try:
            async with (
                asyncio.timeout(QUERY_SECONDS_MAX),
                self.post(path, json.dumps(document).encode(), QUERY_SECONDS_MAX) as response,
            ):
                answer = json.loads(await response.read()) if response.status == 200 else {}
        except Unreachable:
            raise
        except (BadAnswer, OSError, ValueError, RecursionError):
            return {}
        return answer if isinstance(answer, dict) else {}

    @asynccontextmanager
    async def post(
        self,
        path: str,
        body: bytes,
        silence_seconds: float,
        traceparent: str = "",
        *,
        query: str = "",
        forwarded: Mapping[str, str] = NOTHING.headers,
    ) -> AsyncIterator[Response]:
        """
        Send a client's request and yield the response as its body begins; without a body a GET.

        `forwarded` are the client's headers, by name in lower case; the body is JSON unless they
        say otherwise.

        It is never sent twice: a backend that hangs up may have done the work. `silence_seconds`
        bounds the wait for the response, and then for each part of its body; a backend that
        reports that it works may be silent for longer. Raises BadAnswer.
        """
        headers = {**(_JSON if body else {}), **forwarded, **self._headers}
        if traceparent:
            headers["traceparent"] = traceparent
        if not path.startswith("/"):
            raise BadAnswer("The task's path is not one.")
        method, address = "POST" if body else "GET", f"{path}?{query}" if query else path
        self.running += 1
        try:
            response = await self._send_where_it_is(method, address, headers, body, silence_seconds)
            with self._hearing(response):
                yield response
        finally:
            self.running -= 1

    @contextmanager
    def _hearing(self, response: Response) -> Iterator[None]:
        """Count the bytes of an answer, and close it at the end; an error does not count."""
        if response.status == 200:
            self._answers.add(response)
        try:
            yield
        finally:
            response.close()
            if response in self._answers:
                self._answers.discard(response)
                self._ended_bytes += response.received_bytes

    @asynccontextmanager
    async def _query(self, path: str, method: str = "GET") -> AsyncIterator[Response]:
        """Ask the backend about itself. Raises Fault when it does not answer."""
        try:
            async with asyncio.timeout(QUERY_SECONDS_MAX):
                response = await self._send(method, path, self._headers, b"", QUERY_SECONDS_MAX)
                try:
                    yield response
                finally:
                    response.close()
        except OSError as error:  # A timeout is one.
            raise _silent(error) from error

    async def _send_where_it_is(
        self, method: str, path: str, headers: dict[str, str], body: bytes, silence_seconds: float
    ) -> Response:
        """Send a request; some servers have below `/v1` what others have beside it."""
        is_below = path.startswith("/v1/")
        first = self._prefix + path.removeprefix("/v1") if is_below else path
        response = await self._send(method, first, headers, body, silence_seconds, self.works)
        if response.status != _ABSENT or is_below or not self._prefix:
            return response
        second = self._prefix + path
        other = await self._send(method, second, headers, body, silence_seconds, self.works)
        if other.status == _ABSENT:  # Neither has it: the first answer counts.
            response, other = other, response
        response.close()
        return other

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        silence_seconds: float,
        outlasts: Outlasts | None = None,
    ) -> Response:
        url, limit = self._root + path, silence_seconds
        try:
            return await self._connections.send(
                method, url, headers, body, silence_seconds=limit, outlasts=outlasts
            )
        except (CannotConnect, ConnectTimeout) as error:
            raise _silent(error) from error
        except Silence as error:
            raise SilentTooLong from error
        except HttpError as error:  # It was there, and may have broken off this request alone.
            raise BrokenOff(f"The backend broke off: {type(error).__name__}.") from error

    async def _get_json(self, path: str) -> Any:
        async with self._query(path) as response:
            if response.status in (401, 403):
                raise KeyRefused(f"The backend answered {response.status}: it refuses our key.")
            if response.status != 200:
                kind = _Absent if _is_absent(response.status) else BadAnswer
                raise kind(f"The backend answered {response.status} to GET {path}.")
            try:
                return json.loads(await response.read())
            except (ValueError, RecursionError) as error:
                raise _Absent(f"The backend's answer to GET {path} is not JSON.") from error


def _silent(error: OSError) -> Unreachable:
    return Unreachable(f"The backend does not answer: {type(error).__name__}.")


def _is_absent(status: int) -> bool:
    """Say whether a status means that there is no such route; a redirect does."""
    return status == 501 or (300 <= status < 500 and status not in _REFUSED)
