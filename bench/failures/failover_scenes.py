"""
The sixteen situations of Failover Bench, as scenes of ours, and what each outcome is worth.

Failover Bench (https://github.com/failoverbench/failoverbench, methodology v0.1, September 2026)
has a fake provider break in sixteen ways behind a gateway. Numbers, titles, limits and what is
checked are its own; the code, the servers and the clients here are this project's. What differs,
and why, is in `bench/README.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.failures.failing_backend import PREFILL_REFUSED, UNCONTINUED, said
from bench.harness.backend import MODEL

#: What each of them says, and how many words it has.
WORDS = 60
WHOLE = "".join(said(WORDS))

Verdict = Literal["passed", "partial", "safe", "failed"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply that a client got."""

    #: Seconds until the end, or until it gave up.
    seconds: float
    status: int = 0
    text: str = ""
    #: What an error said; None: the answer claims to be whole.
    error: str | None = None
    #: Whether the client gave up because nothing ended.
    hung: bool = False
    #: Whether something came that no client can read.
    garbage: bool = False
    usage: dict[str, Any] | None = None
    #: The place of the server that is said to have answered.
    server: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.error is None and _words(self.text) == _words(WHOLE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Request that a server got."""

    server: int
    #: Seconds of one clock.
    at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One run of a scene, from both ends."""

    reply: Reply
    attempts: Sequence[Attempt]
    #: Whether a good request was answered behind it.
    alive: bool = True

    @property
    def failing(self) -> list[Attempt]:
        """Return the attempts at the server that fails: the one that was asked first."""
        return [one for one in self.attempts if one.server == self.attempts[0].server]

    @property
    def others(self) -> list[Attempt]:
        return [one for one in self.attempts if one.server != self.attempts[0].server]

    @property
    def gap(self) -> float:
        """
        Return the seconds between the first two attempts at the server that fails; 0 without a
        second.
        """
        return self.failing[1].at - self.failing[0].at if len(self.failing) > 1 else 0.0

    def within(self, seconds: float) -> int:
        """Return the attempts at the server that fails in the first so many seconds."""
        return sum(one.at - self.failing[0].at <= seconds for one in self.failing)


@dataclass(frozen=True, slots=True)
class Check:
    """Expectation besides an answer."""

    what: str
    holds: Callable[[Seen], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One situation."""

    title: str
    #: Of `bench.failures.failing_backend`.
    behaviour: str
    #: A client that has waited for so long takes it for hung.
    seconds_max: float
    model: str = MODEL
    wants: Literal["answer", "error"] = "answer"
    #: Without these it has failed, without those of the second kind it is partial.
    required: Sequence[Check] = ()
    advised: Sequence[Check] = ()
    #: Only where answers are streamed.
    streams_only: bool = False


def _asked(most: int, *, least: int = 0) -> Check:
    what = f"asks the failing server at most {most} times" if not least else "asks it again"
    return Check(what, lambda seen: least <= len(seen.failing) <= most)


def _hammers(most: int, seconds: float) -> Check:
    return Check(
        f"asks it at most {most} times in {seconds:g} s", lambda seen: seen.within(seconds) <= most
    )


def _ends(seconds: float, what: str) -> Check:
    return Check(what, lambda seen: seen.reply.seconds <= seconds)


_ALIVE = Check("goes on afterwards", lambda seen: seen.alive)
_USAGE = Check(
    "tells the usage of the answer alone",
    lambda seen: (seen.reply.usage or {}).get("completion_tokens") == WORDS,
)
_UNMASKED = Check(
    "does not tell that a server can't continue instead of what failed",
    lambda seen: PREFILL_REFUSED not in (seen.reply.error or ""),
)
_NAMED = Check(
    "names the server that answered",
    lambda seen: not seen.reply.is_whole or seen.reply.server == seen.attempts[-1].server,
)
#: A silent server is asked three times at the most, each for so long as the limit is.
_LIMIT_SECONDS = 10.0

SCENES: dict[str, Scene] = {
    "S01": Scene(
        title="429 with Retry-After",
        behaviour="rate limited once",
        seconds_max=20,
        required=[_hammers(2, 1.5)],
        advised=[
            _asked(9, least=2),
            Check("waits as long as it is told", lambda seen: seen.gap >= 1.8),
        ],
    ),
    "S02": Scene(
        title="429 without Retry-After, persistent",
        behaviour="rate limited",
        seconds_max=40,
        required=[_hammers(4, 3), _asked(6)],
    ),
    "S03": Scene(
        title="500 once, then healthy",
        behaviour="500 once",
        seconds_max=20,
        advised=[_asked(9, least=2)],
    ),
    "S04": Scene(title="503 persistent", behaviour="503", seconds_max=40, required=[_asked(6)]),
    "S05": Scene(title="TCP reset before headers", behaviour="reset once", seconds_max=20),
    "S06": Scene(
        title="No response at all",
        behaviour="silent",
        seconds_max=60,
        required=[_ends(3 * _LIMIT_SECONDS + 10, "ends within three limits")],
        advised=[_asked(1)],
    ),
    "S07": Scene(
        title="Slow first token",
        behaviour="late",
        seconds_max=60,
        advised=[_ends(15, "has a limit for the first token")],
    ),
    "S08": Scene(title="Stream cut mid-answer", behaviour="cut", seconds_max=40),
    "S09": Scene(
        title="Stream stalls",
        behaviour="stall",
        seconds_max=70,
        required=[_ends(45, "ends within 45 s"), _ALIVE],
    ),
    "S10": Scene(
        title="Malformed chunk in the stream",
        behaviour="malformed",
        seconds_max=30,
        required=[_ALIVE],
    ),
    "S11": Scene(
        title="Stream ends without [DONE]",
        behaviour="no done",
        seconds_max=30,
        required=[_ends(8, "ends promptly")],
        advised=[_USAGE],
        streams_only=True,
    ),
    "S12": Scene(
        title="Context length exceeded",
        behaviour="too long",
        seconds_max=20,
        required=[_asked(1)],
    ),
    "S13": Scene(
        title="Content-filter rejection",
        behaviour="filtered",
        seconds_max=20,
        wants="error",
        required=[_asked(1)],
    ),
    "S14": Scene(
        title="Fallback target rejects prefill",
        behaviour="cut",
        seconds_max=40,
        model=UNCONTINUED,
        required=[_UNMASKED],
        streams_only=True,
    ),
    "S16": Scene(
        title="Fail-over accounting",
        behaviour="503",
        seconds_max=40,
        required=[_NAMED, _asked(6)],
        advised=[_USAGE],
    ),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdict on an outcome, with its reason."""

    verdict: Verdict
    why: str = ""


def judge(scene: Scene, seen: Seen) -> Judged:
    """Say what came of a scene."""
    reply = seen.reply
    if harm := _harm(reply):
        return Judged("failed", harm)
    if missed := _missed(scene.required, seen):
        return Judged("failed", missed)
    if scene.wants == "answer" and reply.error is not None:
        return Judged("safe", f"told {reply.error}")
    if scene.wants == "error" and reply.error is None:
        return Judged("partial", "answered by another server")
    if missed := _missed(scene.advised, seen):
        return Judged("partial", missed)
    return Judged("passed")


def _harm(reply: Reply) -> str:
    """Return what must not happen to any client; empty if it did not."""
    if reply.hung:
        return f"did not end in {reply.seconds:.0f} s"
    if reply.garbage:
        return "passes on what no client can read"
    if not _is_beginning(reply.text):
        return "is mixed of two answers"
    if reply.error is None and not reply.is_whole:
        return "half an answer is taken for whole"
    return ""


def _missed(checks: Sequence[Check], seen: Seen) -> str:
    return ", ".join(f"not: {check.what}" for check in checks if not check.holds(seen))


def _words(text: str) -> list[str]:
    return text.split()


def _is_beginning(text: str) -> bool:
    """Return whether a text is how the answer begins, be it in the middle of a word."""
    return " ".join(_words(WHOLE)).startswith(" ".join(_words(text)))


#: The sixteenth: the server that was asked first is down, then well again. Requests come one after
#: another, and go on at the end until that server has answered one.
FLAPS = "S15"
FLAPS_TITLE = "Primary flaps: down, then healthy"
#: So long after it is well again it is to be in use.
RECOVERED_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Flap:
    """Results of the sixteenth scene."""

    replies: Sequence[Reply]
    #: How many of them began while the server was down.
    during: int
    #: Seconds from when it was well until it was asked again; None: never.
    recovered: float | None = field(default=None)


def judge_flap(flap: Flap) -> Judged:
    """Say what came of the sixteenth scene."""
    for reply in flap.replies:
        if harm := _harm(reply):
            return Judged("failed", harm)
    if flap.recovered is None or flap.recovered > RECOVERED_SECONDS_MAX:
        return Judged("failed", f"not in use again in {RECOVERED_SECONDS_MAX:g} s")
    lost = sum(not reply.is_whole for reply in flap.replies)
    if lost:
        return Judged("safe", f"{lost} of {len(flap.replies)} requests were told an error")
    return Judged("passed")
