"""What an operator chooses in `cdk.json`, or with ``-c name=value``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from inferline.settings import ORIGIN, SQS_SECONDS_MAX

#: What is no switch of ours: the CDK's own flags and what it looked up.
_FOREIGN: Final = re.compile(r"[@:/]")
_STACK: Final = re.compile(r"[a-z][a-z0-9-]{0,12}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MODEL_CHARS_MAX: Final = 256
#: The periods that CloudWatch Logs knows, as far as they make sense here, days.
LOG_DAYS: Final = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)
#: A message must not go before its request's time is over: that is as long as an answer may take.
QUEUE_SECONDS_MIN: Final = 900


class SwitchError(ValueError):
    """One or more switches can't be used; the message names each."""


def _switch(default: Any, doc: str, *, least: int = 1) -> Any:
    """Return a number is to be ``least`` at least."""
    return field(default=default, metadata={"doc": doc, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Every choice, its default and its meaning."""

    stack: str = _switch(
        "inferline",
        "Name of the stack, and prefix of all that it makes; 13 characters at most. Two stacks of "
        "one account need different names, in different regions too.",
    )
    models: tuple[str, ...] = _switch(
        (), "Models whose queues are there from the start. Others come when a provider brings them."
    )
    edge: str = _switch(
        "stream",
        "stream: answers are streamed and may take 15 minutes. buffered: an answer comes as a "
        "whole within 29 s; for emulators and tiny installs.",
    )
    architecture: str = _switch("arm64", "Of the functions: arm64, or x86_64 for emulators.")
    task_seconds_kept: int = _switch(
        3600,
        "How long a task's rows, its answer included, stay after its deadline, seconds. With less "
        "than 1800 requests may be missing in the usage.",
    )
    idempotency_seconds_kept: int = _switch(
        24 * 3600,
        "How long a task whose client sent an Idempotency-Key stays after its submit, its answer "
        "included, seconds.",
    )
    queue_seconds_kept: int = _switch(
        3600,
        "How long a message, prompt included, may wait in a queue until SQS drops it, 900 to "
        "1209600 s. Queues that an enrolment has made stay as they are.",
    )
    dead_letter_seconds_kept: int = _switch(
        24 * 3600,
        "How long after its submit a message that nobody could handle, prompt included, may wait "
        "to be buried, seconds; longer than in a queue, 1209600 at the most.",
    )
    body_days_kept: int = _switch(
        1, "How long request bodies too large for a message stay in their bucket, days."
    )
    model_seconds_kept: int = _switch(
        7 * 24 * 3600,
        "How long a model is listed that no provider has any more and `models` does not name, "
        "seconds; 0: for ever.",
    )
    usage_days_kept: int = _switch(400, "How long it is known what a tenant has used, days.")
    log_days: int = _switch(30, "How long logs are kept, days.")
    alarm_email: str = _switch("", "Where alarms are sent; empty: they are only shown.")
    inference_mb: int = _switch(
        512,
        "Memory of the function that waits for answers, 128 to 10240 MB. It has CPU in proportion, "
        "and it is the largest part of a request's cost.",
    )
    flush_milliseconds: int = _switch(
        2000,
        "How long a piece of a stream gathers before it is written, once the stream flows; clients "
        "get it in steps of 100 ms. Fewer pieces cost less, and come later.",
    )
    compress: bool = _switch(
        False,
        "Answers go out compressed to clients that take it: a tenth of the traffic, which is a "
        "third of what a streamed request costs.",
    )
    cors_origins: tuple[str, ...] = _switch(
        (),
        "Origins whose pages may ask from a browser, as `https://app.example`; `*` for any. Their "
        "preflights need no key, and API Gateway answers them itself.",
    )
    requests_per_second: int = _switch(100, "Of all callers together. More: 429.")
    requests_burst: int = _switch(200, "How many may come at once. More: 429.")
    tenant_requests_per_minute: int = _switch(
        3000,
        "Of all keys of a tenant together, in a minute, unless it has a limit of its own. More: "
        "429. 0: no limit.",
        least=0,
    )
    tenant_concurrent_requests: int = _switch(
        256,
        "Of a tenant's requests under way at once, likewise. 0: no limit. Both 0: two writes fewer "
        "a request.",
        least=0,
    )
    waf: bool = _switch(
        False, "A firewall before the API: a limit per address. About 6 USD a month."
    )
    waf_requests: int = _switch(2000, "With the firewall: requests of one address in 5 minutes.")
    traces: bool = _switch(
        False,
        "X-Ray traces of the API and its functions. They cost 5 USD a million; where there are few "
        "requests each is traced.",
    )
    page: bool = _switch(
        True,
        "The dashboard on CloudFront; it costs nothing while nobody looks. Turn it off where an "
        "account may not use CloudFront.",
    )
    reserved_concurrency: bool = _switch(
        True,
        "Bounds on how many of each function run at once. Takes 813 of an account's concurrent "
        "executions; turn it off where the quota is below 913.",
    )
    api_log_role: bool = _switch(
        True,
        "Makes the role that lets API Gateway write logs, which is one for the whole account and "
        "region; turn it off where there is one.",
    )
    protect: bool = _switch(
        False, "Tables, bucket and key refuse to be deleted and outlive the stack. For production."
    )

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Self:
        """Switches from the CDK's context. Raises SwitchError with every problem in one message."""
        known = {spec.name: spec for spec in fields(cls)}
        problems = [
            f"{name} is no switch; there are {', '.join(known)}"
            for name in context
            if name not in known and not _FOREIGN.search(name)
        ]
        found: dict[str, Any] = {}
        for name, spec in known.items():
            if name in context:
                try:
                    found[name] = _parse(context[name], type(spec.default), spec.metadata["least"])
                except ValueError as error:
                    problems.append(f"{name} {error}, got {context[name]!r}")
        if problems:
            raise SwitchError("; ".join(problems))
        switches = cls(**found)
        if problems := switches.problems():
            raise SwitchError("; ".join(problems))
        return switches

    def problems(self) -> list[str]:
        """Return what of the values can't be used."""
        unusable = {
            "stack must be 1 to 13 of a-z, 0-9 and -, a letter first": (
                not _STACK.fullmatch(self.stack) or self.stack.endswith("-")
            ),
            "models must be 1 to 256 characters each, without commas, and each only once": (
                not all(0 < len(m) <= _MODEL_CHARS_MAX and "," not in m for m in self.models)
                or len(set(self.models)) < len(self.models)
            ),
            "cors_origins must be origins without a path, or *": (
                not all(o == "*" or ORIGIN.fullmatch(o) for o in self.cors_origins)
            ),
            "edge must be stream or buffered": self.edge not in ("stream", "buffered"),
            "architecture must be arm64 or x86_64": self.architecture not in ("arm64", "x86_64"),
            "inference_mb must be from 128 to 10240": not 128 <= self.inference_mb <= 10240,
            f"log_days must be one of {', '.join(map(str, LOG_DAYS))}": (
                self.log_days not in LOG_DAYS
            ),
            f"queue_seconds_kept must be from {QUEUE_SECONDS_MIN} to {SQS_SECONDS_MAX}": (
                not QUEUE_SECONDS_MIN <= self.queue_seconds_kept <= SQS_SECONDS_MAX
            ),
            f"dead_letter_seconds_kept must be from queue_seconds_kept to {SQS_SECONDS_MAX}": (
                not self.queue_seconds_kept <= self.dead_letter_seconds_kept <= SQS_SECONDS_MAX
            ),
            "alarm_email must be an address": bool(
                self.alarm_email and not _EMAIL.fullmatch(self.alarm_email)
            ),
        }
        return [problem for problem, is_so in unusable.items() if is_so]


def documented() -> list[str]:
    """Return a line for each switch, as `cdk.json` has them."""
    return [f"{spec.name}: {spec.metadata['doc']}" for spec in fields(Switches)]


def _parse(value: object, kind: type[Any], least: int) -> Any:
    """``value`` as ``kind``: as `cdk.json` has it, or as text from the command line."""
    if kind is bool:
        return _flag(value)
    if kind is int:
        return _number(value, least)
    if kind is tuple:
        return _texts(value)
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _flag(value: object) -> bool:
    named = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in named:
        return named[value]
    raise ValueError("must be true or false")


def _number(value: object, least: int) -> int:
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if not (digits or whole) or int(str(value).split(".")[0]) < least:
        raise ValueError("must be a whole number" + (" above 0" if least else ""))
    return int(float(str(value)))


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("must be a list of texts") from None


def _texts(value: object) -> tuple[str, ...]:
    """Return a list; from the command line as JSON, or with commas."""
    if isinstance(value, str):
        in_json = value.startswith("[")
        value = _from_json(value) if in_json else [v.strip() for v in value.split(",") if v.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tuple(value)
