"""One request from its arrival to its end, as the ledger and its trace will have it."""

from __future__ import annotations

from collections.abc import Mapping

from inferline.accounts.caller import Caller
from inferline.errors import GatewayStopping, InferLineError
from inferline.gateway.parts import GatewayParts
from inferline.gateway.submit.quota import RequestReservation
from inferline.tasks.task import AnswerHead, Task
from inferline.telemetry import genai
from inferline.telemetry.trace import TraceParent
from inferline.usage.ledger import Entry
from inferline.validation.payload import Payload


class RequestLog:
    """What is known so far; `ended` makes the entry, once."""

    def __init__(
        self, line: GatewayParts, path: str, caller: Caller, traceparent: str = ""
    ) -> None:
        self.caller = caller
        #: Once its model is known: names that nobody knows are not put on record.
        self.payload: Payload | None = None
        #: What it holds of its caller's limits, from before it is submitted.
        self.reservation: RequestReservation | None = None
        #: Once it has been submitted, and whether the task was there before it.
        self.task: Task | None = None
        self.adopted = False
        self._line = line
        self._path = path
        #: By the line's clock, seconds.
        self.arrived = line.clock.monotonic()
        self._arrived_ms = line.store.now_ms()
        told = TraceParent.parse(traceparent)
        self._span = line.tracer.begin("server", told, self._arrived_ms)
        self._first_ms: int | None = None
        self._bytes = 0
        self._ended = False

    @property
    def traceparent(self) -> str:
        """What the task carries: the client's trace, or a new one where it has told of none."""
        return str(self._span.context)

    def sends(self, body: bytes) -> None:
        """Some of the answer is about to be sent."""
        if self._first_ms is None:
            self._first_ms = self._elapsed_ms()
        self._bytes += len(body)

    def refused(self, error: InferLineError) -> None:
        """The request was not taken."""
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
        Its last byte is about to go out, or nobody is there to take it. The first call counts.

        ``head`` is None when no backend has answered; ``usage`` is as that told it; ``latest`` is
        the task as last seen.
        """
        if self._ended:
            return
        self._ended = True
        asked, tokens = self.payload, genai.tokens(usage)
        self._settle(status, code, latest, sum(tokens.values()) if tokens else None)
        entry = Entry(
            ended_ms=self._line.store.now_ms(),
            tenant=self.caller.tenant,
            model=asked.model if asked else "",
            tier=asked.tier if asked else "",
            path=self._path,
            streamed=asked.stream if asked else False,
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
        self._line.ledger.record(entry)
        self._trace(entry)

    def _settle(self, status: int, code: str, latest: Task | None, tokens: int | None) -> None:
        """Charge what it took, or as much as was reserved where nobody knows."""
        held, task = self.reservation, self.task
        if held is None:
            return
        if task is None or self._came_to_nothing(task, code, latest):
            held.undo()
        elif self.adopted or (code == f"backend_{status}" and status < 500):
            held.settle(0)  # Another request is charged for it, or the backend has refused it.
        else:
            held.settle(tokens)

    def _came_to_nothing(self, task: Task, code: str, latest: Task | None) -> bool:
        """Whether its task never ran, and will not for somebody else."""
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
            waited = self._line.tracer.begin("internal", self._span.context, task.created_ms)
            waited.end("queue wait", task.created_ms + entry.queue_ms, {})
        name = f"{operation} {entry.model}".rstrip()
        self._span.end(name, self._arrived_ms + entry.total_ms, attributes, entry.code)

    def _elapsed_ms(self) -> int:
        return round((self._line.clock.monotonic() - self.arrived) * 1000)
