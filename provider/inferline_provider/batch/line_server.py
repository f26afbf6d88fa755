"""Lines at the backend: the request for an answer, and the next step after a fault."""

from __future__ import annotations

import json
import logging
import random
from functools import partial
from typing import Final, cast

from inferline.background import Backoff
from inferline.errors import BackendFailed
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.lines import ResultWriter, is_json
from inferline_provider.faults import (
    BackendAnswer,
    BadAnswer,
    BrokenOff,
    Busy,
    Fault,
    KeyRefused,
    Unreachable,
)
from inferline_provider.relay.alias import rename, rename_in_request
from inferline_provider.relay.chunk_stream import ChunkStream
from inferline_provider.relay.relay import Relay
from inferline_provider.serve.attempt_context import AttemptContext

log = logging.getLogger(__name__)

#: How often a line may fail, and be refused for want of room, before that is its result.
FAILURES_MAX: Final = 3
REFUSALS_MAX: Final = 10

#: Code and message of a line without an answer.
PROVIDER_LOST: Final = "provider_lost"
LOST: Final = "The LLM server was lost each time that it ran this request."


class BackendLines:
    """The backend of all lines here."""

    def __init__(self, context: AttemptContext) -> None:
        self._context = context
        self._results = ResultWriter(context.store.now_ms)
        self._pauses = Backoff(*context.pauses.line_seconds)

    def give_up(self, run: LineRun) -> None:
        """Note as a line's result that it was lost."""
        run.work.end(run, self._results.lost(run.line, PROVIDER_LOST, LOST))

    async def serve(self, run: LineRun) -> None:
        """Have a line answered, and note its result, or that it is to be tried again."""
        breakers, model = self._context.diagnosis.breakers, run.task.model
        breakers.begin(model, run.ref)
        try:
            answer, usage = await self._ask(run)
            breakers.alive(model, run.ref)
        except Fault as fault:
            self._after(run, fault)
        else:
            run.work.end(run, self._results.answered(run.line, answer, usage))
        finally:
            breakers.end(model, run.ref)

    async def _ask(self, run: LineRun) -> tuple[BackendAnswer, dict[str, int]]:
        """Return the backend's answer, with its token counts. Raises Fault."""
        context, task = self._context, run.task
        name, outward, body = context.aliases.get(task.model), None, run.line.body
        if name is not None:
            body = rename_in_request(body, "", task.model, name)
            outward = partial(rename, old=name, new=task.model)
        sink = cast(ChunkStream, _PlainAnswer())
        relay = Relay(context.terms, task.path, body, sink, rename=outward)
        silence_seconds = context.terms.first_byte_seconds_max
        async with context.backend.post(task.path, body, silence_seconds) as response:
            finish = await relay.run(response)
        outcome = finish.outcome
        if not is_json(finish.rest):
            raise BadAnswer(f"The backend answered {outcome.status} without JSON.")
        answer = BackendAnswer(outcome.status, outcome.content_type, finish.rest)
        return answer, outcome.usage

    def _after(self, run: LineRun, fault: Fault) -> None:
        """Note the next step after a fault, once the parts that it concerns have noted it."""
        diagnosis = self._context.diagnosis
        has_good_key = diagnosis.has_good_key
        diagnosis.conclude(run.task, fault, again=run.refusals > 0)
        log.info("A line of a batch failed. %s task=%s line=%d", fault, run.task.ref.id, run.number)
        if isinstance(fault, BrokenOff):
            run.work.progress.losses[run.number] += 1
            if run.work.is_given_up(run):
                return self.give_up(run)
            return self._try_later(run, self._pauses.first)
        answer = _final_answer(run, fault, has_good_key=has_good_key)
        if answer is None:
            return self._try_later(run, self._pause_seconds(run, fault))
        return run.work.end(run, self._results.answered(run.line, answer))

    def _pause_seconds(self, run: LineRun, fault: Fault) -> float:
        pauses = self._pauses
        if isinstance(fault, Busy):
            wanted = fault.retry_after_seconds
            seconds = pauses.seconds(run.refusals - 1) if wanted is None else wanted
            return min(seconds, pauses.longest) * random.uniform(1.0, 1.5)
        return pauses.seconds(max(0, run.failures - 1))

    def _try_later(self, run: LineRun, seconds: float) -> None:
        run.due_at = self._context.clock.monotonic() + seconds
        run.work.put_back(run)


def _final_answer(run: LineRun, fault: Fault, *, has_good_key: bool) -> BackendAnswer | None:
    """Return the answer that a line ends with after a fault; None if it is to be tried again."""
    if isinstance(fault, Busy):
        run.refusals += 1
        is_over = fault.is_final or run.refusals >= REFUSALS_MAX
        return (fault.answer or _failure()) if is_over else None
    if isinstance(fault, KeyRefused):
        return fault.answer if has_good_key else None
    if isinstance(fault, Unreachable):
        return None
    run.failures += 1
    answer = fault.answer if isinstance(fault, BadAnswer) else None
    is_over = run.failures >= FAILURES_MAX or (isinstance(fault, BadAnswer) and fault.is_final)
    return (answer or _failure()) if is_over else None


def _failure() -> BackendAnswer:
    """Return an answer for a line that the backend gave no usable one."""
    error = BackendFailed()
    return BackendAnswer(error.status, "application/json", json.dumps(error.body()).encode())


class _PlainAnswer:
    """A place for the events of a stream that nobody has asked for: they are dropped."""

    begun: Final = False

    def head(self, status: int, content_type: str) -> None:
        """Take note of nothing."""

    def put(self, event: bytes) -> None:
        """Drop an event."""

    async def drained(self) -> None:
        """Return at once."""

    def discard(self) -> None:
        """Drop nothing more."""
