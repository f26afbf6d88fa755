"""Lines at the backend: the request for an answer, and the next step after a fault."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

from inferline.background import Backoff
from inferline.errors import BackendFailed
from inferline.tasks.store import AttemptOutcome
from inferline.telemetry import genai
from inferline_provider.backend.classification import Finish, usage_of
from inferline_provider.batch.fold import Folding
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.lines import LineResult, ResultWriter
from inferline_provider.faults import (
    BackendAnswer,
    BadAnswer,
    BrokenOff,
    Busy,
    CannotContinue,
    CannotContinueHere,
    Fault,
    KeyRefused,
    NotRepeated,
    Unreachable,
)
from inferline_provider.relay.alias import rename, rename_in_request
from inferline_provider.relay.continuation import draws_of
from inferline_provider.relay.framing import EVENTS, JSON
from inferline_provider.relay.relay import Relay
from inferline_provider.relay.splice import Splice
from inferline_provider.relay.stage import EventSink
from inferline_provider.relay.usage_question import is_refusal
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
        #: Whether the backend takes requests for streams with their usage.
        self._folds = True

    def give_up(self, run: LineRun) -> None:
        """Note as a line's result that it was lost."""
        self._end(run, self._results.lost(run.line, PROVIDER_LOST, LOST))

    def note_suspended(self, run: LineRun) -> None:
        """Count a line that made room for a request."""
        self._context.telemetry.sink.line(run.task.model, "suspended")

    def _end(self, run: LineRun, result: LineResult) -> None:
        self._context.telemetry.sink.line(run.task.model, result.ending)
        run.work.end(run, result)

    async def serve(self, run: LineRun) -> None:
        """Have a line answered, and note its result, or that it is to be tried again."""
        try:
            answer, usage = await self._ask(run)
        except Fault as fault:
            return self._after(run, fault)
        self._context.diagnosis.breakers.alive(run.task.model, run.ref)
        return self._end(run, self._results.answered(run.line, answer, usage))

    async def _ask(self, run: LineRun) -> tuple[BackendAnswer, dict[str, int]]:
        """Return the backend's answer, with its token counts. Raises Fault."""
        if not run.is_ready or (run.folding is not None and not self._folds):
            run.begin_anew(folds=self._folds)
        if run.folding is None:
            finish = await self._post(run, run.line.body, _NoSink())
            answer = BackendAnswer(finish.outcome.status, JSON, finish.rest)
        else:
            finish = await self._ask_folded(run, run.folding)
            if is_refusal(finish):  # Of the question for the usage; then no line asks.
                self._folds = False
                return await self._ask(run)
            answer = run.folding.answer(finish)
        try:
            document = json.loads(answer.body, parse_constant=_refuse)
        except (ValueError, RecursionError):
            message = f"The backend answered {answer.status} without JSON."
            raise BadAnswer(message) from None
        usage = document.get("usage") if isinstance(document, dict) else None
        return answer, usage_of(document) | genai.detail_counts(usage)

    async def _ask_folded(self, run: LineRun, folding: Folding) -> Finish:
        """Have the backend stream an answer, or the rest of one. Raises Fault."""
        if not folding.tokens:
            return await self._post(run, folding.request, folding)
        for _ in range(1, draws_of(folding.request)):
            with suppress(NotRepeated):
                return await self._resume(run, folding)
        return await self._resume(run, folding)

    async def _resume(self, run: LineRun, folding: Folding) -> Finish:
        context, model = self._context, run.task.model
        rest = await folding.resume(context.aliases.get(model, model), context.backend)
        if rest.body is None:
            return Finish(AttemptOutcome(status=200, content_type=EVENTS))
        return await self._post(run, rest.body, folding, rest.splice)

    async def _post(
        self, run: LineRun, body: bytes, sink: EventSink, splice: Splice | None = None
    ) -> Finish:
        """Post a body to the backend and relay its answer. Raises Fault."""
        context, task = self._context, run.task
        name, outward = context.aliases.get(task.model), None
        if name is not None:
            body = rename_in_request(body, "", task.model, name)
            outward = partial(rename, old=name, new=task.model)
        alive = partial(context.diagnosis.breakers.alive, task.model, run.ref)
        relay = Relay(
            context.terms,
            task.path,
            body,
            sink,
            rename=outward,
            on_event=_Once(alive),
            splice=splice,
        )
        silence_seconds = context.terms.first_byte_seconds_max
        async with context.backend.post(task.path, body, silence_seconds) as response:
            return await relay.run(response)

    def _after(self, run: LineRun, fault: Fault) -> None:
        """Note the next step after a fault, once the parts that it concerns have noted it."""
        if isinstance(fault, CannotContinue | CannotContinueHere):
            run.can_resume = False
            run.begin_anew(folds=True)
            return self._try_later(run, 0.0)
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
        return self._end(run, self._results.answered(run.line, answer))

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
    run.begin_anew(folds=True)
    answer = fault.answer if isinstance(fault, BadAnswer) else None
    is_over = run.failures >= FAILURES_MAX or (isinstance(fault, BadAnswer) and fault.is_final)
    return (answer or _failure()) if is_over else None


def _failure() -> BackendAnswer:
    """Return an answer for a line that the backend gave no usable one."""
    error = BackendFailed()
    return BackendAnswer(error.status, "application/json", json.dumps(error.body()).encode())


def _refuse(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(name)


class _Once:
    """A call that is made with the first event only."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._is_made = False

    def __call__(self) -> None:
        """Make it, unless it is made."""
        if not self._is_made:
            self._is_made = True
            self._call()


class _NoSink:
    """A sink of answers that are no streams: an event that comes all the same is dropped."""

    begun: Final = False

    def head(self, status: int, content_type: str) -> None:
        """Take note of nothing."""

    def put(self, event: bytes) -> None:
        """Drop an event."""

    async def drained(self) -> None:
        """Return at once."""

    def discard(self) -> None:
        """Drop nothing more."""
