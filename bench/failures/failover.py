"""What a client is told when one of two servers fails: sixteen situations, each with a verdict."""

from __future__ import annotations

import asyncio
import itertools
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any

from bench.failures.failing_backend import BEHAVIOURS
from bench.failures.failover_line import (
    ALIVE_SECONDS_MAX,
    LIMIT_SECONDS,
    Line,
    ask,
    attempts,
    inferline,
    litellm,
)
from bench.failures.failover_scenes import (
    FLAPS,
    FLAPS_TITLE,
    RECOVERED_SECONDS_MAX,
    SCENES,
    WHOLE,
    Attempt,
    Flap,
    Judged,
    Reply,
    Scene,
    Seen,
    judge,
    judge_flap,
)
from bench.harness.loader import Loader
from bench.harness.stack import OURS, PEER
from bench.report import Goal, Table, goals, progress

CAN, CANNOT = f"{OURS}, servers can continue", f"{OURS}, they can't"
CONTENDERS: dict[str, Callable[[], AbstractAsyncContextManager[Line]]] = {
    CAN: lambda: inferline(continues=True),
    CANNOT: lambda: inferline(continues=False),
    PEER: litellm,
}
STREAMED, WHOLE_ANSWERS = "streamed", "not streamed"
#: Of the streamed ones, so many are to be passed or safe.
GOALS = {CAN: 16, CANNOT: 14}
#: Requests that meet a server that is down for a while: how many, how many seconds apart, which.
FLAPPING, FLAPPING_QUICK = (20, 4.0, "down"), (10, 1.2, "down shortly")
#: Between two scenes, so that none bears on the next: LiteLLM leaves a server that has failed alone
#: for 5 s.
SETTLED_SECONDS = 6.0
#: Between two further requests until that server is in use again.
RETURN_SECONDS = 2.0
FLAP_SECONDS_MAX = 30.0
#: Of what an error says.
WHY_CHARS_MAX = 90

Raw = dict[str, Any]


async def measure(load: Loader, *, quick: bool) -> Raw:
    """
    Return all contenders at once, each before servers of its own: nearly all of it is waiting.
    """
    ways = (STREAMED,) if quick else (STREAMED, WHOLE_ANSWERS)
    measured = await asyncio.gather(
        *(_contender(name, ways, FLAPPING_QUICK if quick else FLAPPING) for name in CONTENDERS)
    )
    return dict(zip(CONTENDERS, measured, strict=True))


async def _contender(name: str, ways: tuple[str, ...], flapping: tuple[int, float, str]) -> Raw:
    numbers = itertools.count(1)
    async with CONTENDERS[name]() as line:
        await ask(line, f"good {next(numbers)}", stream=True, seconds_max=60)
        runs: Raw = {}
        for way in ways:
            stream = way == STREAMED
            scenes = {key: one for key, one in SCENES.items() if stream or not one.streams_only}
            runs[way] = {}
            for key, scene in scenes.items():
                seen = await _play(line, scene, numbers, stream=stream)
                runs[way][key] = _kept(seen)
                progress(f"{name}, {way}, {key}: {judge(scene, seen)}")
            flap = await _flap(line, flapping, next(numbers), stream=stream)
            runs[way][FLAPS] = {**asdict(flap), "replies": [_reply(one) for one in flap.replies]}
            progress(f"{name}, {way}, {FLAPS}: {judge_flap(flap)}")
        return runs


async def _play(line: Line, scene: Scene, numbers: Iterator[int], *, stream: bool) -> Seen:
    name = f"{scene.behaviour} {next(numbers)}"
    reply = await ask(line, name, stream=stream, seconds_max=scene.seconds_max, model=scene.model)
    good = f"good {next(numbers)}"
    behind = await ask(line, good, stream=stream, seconds_max=ALIVE_SECONDS_MAX)
    seen = Seen(reply, await attempts(line, name), behind.is_whole)
    await asyncio.sleep(SETTLED_SECONDS)
    return seen


async def _flap(line: Line, flapping: tuple[int, float, str], number: int, *, stream: bool) -> Flap:
    """Ask again and again while the server that was asked first is down, and until it is back."""
    count, pause, behaviour = flapping
    lasts = BEHAVIOURS[behaviour].lasts or 0.0
    name, begun = f"{behaviour} {number}", time.monotonic()
    replies: list[Reply] = []
    seen: list[Attempt] = []
    recovered: float | None = None
    during = 0
    for at in itertools.count():
        due = begun + pause * min(at, count) + RETURN_SECONDS * max(0, at - count)
        await asyncio.sleep(due - time.monotonic())
        replies.append(await ask(line, name, stream=stream, seconds_max=FLAP_SECONDS_MAX))
        seen += await attempts(line, name)
        back = seen[0].at + lasts
        during += time.monotonic() < back
        again = [one.at - back for one in seen if one.server == seen[0].server and one.at >= back]
        recovered = again[0] if again else None
        is_late = time.monotonic() > back + RECOVERED_SECONDS_MAX
        if at + 1 >= count and (recovered is not None or is_late):
            break
    return Flap(replies, during, recovered)


def _kept(seen: Seen) -> Raw:
    return {**asdict(seen), "reply": _reply(seen.reply)}


def _reply(reply: Reply) -> Raw:
    """Return the reply for the file: a whole answer, which most are, is kept as nothing."""
    return {**asdict(reply), "text": None if reply.text == WHOLE else reply.text}


def _read_reply(raw: Raw) -> Reply:
    return Reply(**{**raw, "text": WHOLE if raw["text"] is None else raw["text"]})


def judged(key: str, raw: Raw) -> tuple[Judged, str]:
    """Return what came of a scene, and in figures how."""
    if key == FLAPS:
        replies = [_read_reply(one) for one in raw["replies"]]
        flap = Flap(replies, raw["during"], raw["recovered"])
        good = sum(one.is_whole for one in replies[: flap.during])
        back = "never" if flap.recovered is None else f"{flap.recovered:.0f} s"
        return judge_flap(flap), f"{good} of {flap.during} answered; back after {back}"
    seen = Seen(
        _read_reply(raw["reply"]), [Attempt(**one) for one in raw["attempts"]], raw["alive"]
    )
    figures = f"{len(seen.failing)} + {len(seen.others)} in {seen.reply.seconds:.1f} s"
    return judge(SCENES[key], seen), figures


def tell(raw: Raw) -> list[Table]:
    return [goals("Failover", _goals(raw)), _counts(raw), *(_table(raw, way) for way in _ways(raw))]


def _ways(raw: Raw) -> list[str]:
    return list(raw[CAN])


def _verdicts(raw: Raw, name: str, way: str) -> Counter[str]:
    return Counter(judged(key, one)[0].verdict for key, one in raw[name][way].items())


def _goals(raw: Raw) -> list[Goal]:
    reached = []
    for name, wanted in GOALS.items():
        count = _verdicts(raw, name, STREAMED)
        good = count["passed"] + count["safe"]
        reached.append(
            Goal(f"{name}: passed or safe, of 16", f">= {wanted}", str(good), good >= wanted)
        )
    return reached


def _counts(raw: Raw) -> Table:
    kinds = ("passed", "partial", "safe", "failed")
    rows = []
    for way in _ways(raw):
        for name in raw:
            count = _verdicts(raw, name, way)
            rows.append([name, way, *(str(count[kind]) for kind in kinds)])
    rows.append(["the best of its page of 2026-09-12", STREAMED, "12", "3", "1", "0"])
    return Table(
        "Failover: two servers, one of which fails; sixteen situations of Failover Bench",
        ["asked", "answers", *kinds],
        rows,
        "Passed: the whole answer, or where the request itself is refused the server's own error, "
        "and all was done that is expected. Partial: the whole answer, but something that is "
        "expected was not done. Safe: an error, nothing mixed, no half answer that claims to be "
        "whole. Failed: any of these, no end, or a server that is asked too often. One client and "
        f"one request for each situation, a limit of {LIMIT_SECONDS} s for a server that says "
        "nothing, at all contenders. Failover Bench gives 30 s, and its best one, DeepSeek "
        "Harness with dsh-llm-fallbacks, is no proxy; its figures are told as they stand there.",
    )


def _table(raw: Raw, way: str) -> Table:
    rows = []
    for key in sorted(raw[CAN][way]):
        title = FLAPS_TITLE if key == FLAPS else SCENES[key].title
        cells = []
        for name in raw:
            verdict, figures = judged(key, raw[name][way][key])
            why = f"; {verdict.why}" if verdict.why else ""
            cells.append(f"{verdict.verdict}: {figures}{_cell(why)}")
        rows.append([f"{key} {title}", *cells])
    return Table(
        f"Failover: each situation, {way}",
        ["situation", *raw],
        rows,
        "Behind the verdict: how often the server that failed was asked, how often the other one, "
        "and when the client had its answer. Whichever server is asked first is the one that "
        "fails. LiteLLM asks the servers in a fixed order; InferLine's providers take what they "
        "have room for.",
    )


def _cell(text: str) -> str:
    """Return as much of a text as a table has room for."""
    return textwrap.shorten(text.replace("|", "/"), WHY_CHARS_MAX, placeholder=" ...")
