"""Records a request from its arrival to its end, for the ledger and the trace."""

from __future__ import annotations

from collections.abc import Mapping

from inferline.accounts.caller import Caller
from inferline.errors import GatewayStopping, InferLineError
from inferline.gateway.parts import GatewayParts
from inferline.gateway.submit.rate_limiter import RequestReservation
from inferline.tasks.task import AnswerHead, Task
from inferline.telemetry import genai
from inferline.telemetry.trace import TraceParent
from inferline.usage.ledger import Entry
from inferline.validation.payload import Payload


class RequestLog:
    """The record of a request; `ended` writes the ledger's entry, once."""

    def __init__(
        self, parts: GatewayParts, path: str, caller: Caller, traceparent: str = ""
    ) -> None:
        self.caller = caller
        #: Set once the model is known: unknown names are not recorded.
        self.payload: Payload | None = None
        #: Its reservation of the caller's limits; set before it is submitted.
        self.reservation: RequestReservation | None = None
        #: Set once it has been submitted.
        self.task: Task | None = None
        #: True if the task existed before this request.
        self.adopted = False
        self._parts = parts
        self._path = path
        #: By the parts' clock, seconds.
        self.arrived = parts.clock.monotonic()
        self._arrived_ms = parts.store.now_ms()
        parent = TraceParent.parse(traceparent)
        self._span = parts.tracer.begin("server", parent, self._arrived_ms)
        self._first_ms: int | None = None
        self._bytes = 0
        self._ended = False

    @property
    def traceparent(self) -> str:
        """Return the trace that the task carries: the client's, or a new trace if it sent none."""
        return str(self._span.context)

    def sends(self, body: bytes) -> None:
        """Count bytes of the answer that are about to be sent."""
        if self._first_ms is None:
            self._first_ms = self._elapsed_ms()
        self._bytes += len(body)

    def refused(self, error: InferLineError) -> None:
        """Record that the request was refused."""
        self.ended(error.status, error.code)

    def ended(
        self,
        status: int,
        code: str = "",
        *,
        head: AnswerHead | None = None,
        attempt: int = 0,
        latest: Task | None = None,
        usage: Mapping[str, int] = {},
    ) -> None:
        """
        Record the end, just before the last byte goes out or when the client is gone.

        Only the first call counts. ``head`` is None if no backend has answered; ``usage`` is the
        backend's; ``latest`` is the task as last read.
        """
        if self._ended:
            return
        self._ended = True
        payload, tokens = self.payload, genai.tokens(usage)
        self._settle(status, code, latest, sum(tokens.values()) if tokens else None)
        entry = Entry(
            ended_ms=self._parts.store.now_ms(),
            tenant=self.caller.tenant,
            model=payload.model if payload else "",
            tier=payload.tier if payload else "",
            path=self._path,
            streamed=payload.stream if payload else False,
            status=status,
            code=genai.error_type(code),
            provider=head.provider if head else "",
            attempt=attempt if head else 0,
            queue_ms=head.queue_ms if head else 0,
            first_ms=self._first_ms,
            total_ms=self._elapsed_ms(),
            answer_bytes=self._bytes,
            input_tokens=tokens.get("input", 0),
            output_tokens=tokens.get("output", 0),
        )
        self._parts.ledger.record(entry)
        self._trace(entry)

    def _settle(self, status: int, code: str, latest: Task | None, tokens: int | None) -> None:
        """Charge the tokens used, or the whole reservation if their number is unknown."""
        reservation, task = self.reservation, self.task
        if reservation is None:
            return
        if task is None or self._never_ran(task, code, latest):
            reservation.undo()
        elif self.adopted or (code == f"backend_{status}" and status < 500):
            reservation.settle(0)  # Another request is charged, or the backend refused it.
        else:
            reservation.settle(tokens)

    def _never_ran(self, task: Task, code: str, latest: Task | None) -> bool:
        """Return True if the task never ran and no other request continues it."""
        seen = latest or task
        goes_on = code == GatewayStopping.code or seen.reader != task.reader
        return not seen.attempt and not goes_on

    def _trace(self, entry: Entry) -> None:
        operation = genai.operation(entry.path)
        attributes: dict[str, str | int | bool] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": genai.PROVIDER,
            "gen_ai.request.model": entry.model,
            "gen_ai.request.stream": entry.streamed,
            "http.response.status_code": entry.status,
            "inferline.tier": entry.tier,
            "inferline.provider": entry.provider,
            "inferline.attempt": entry.attempt,
        }
        if entry.input_tokens or entry.output_tokens:
            attributes["gen_ai.usage.input_tokens"] = entry.input_tokens
            attributes["gen_ai.usage.output_tokens"] = entry.output_tokens
        task = self.task
        if task is not None:
            attributes["inferline.task"] = task.ref.id
        if task is not None and entry.provider:
            waited = self._parts.tracer.begin("internal", self._span.context, task.created_ms)
            waited.end("queue wait", task.created_ms + entry.queue_ms, {})
        name = f"{operation} {entry.model}".rstrip()
        self._span.end(name, self._arrived_ms + entry.total_ms, attributes, entry.code)

    def _elapsed_ms(self) -> int:
        return round((self._parts.clock.monotonic() - self.arrived) * 1000)
