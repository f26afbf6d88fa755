"""The options of a stack: its operator sets them in `cdk.json`, or with ``-c name=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from inferline import options
from inferline.options import options_of
from inferline.parsing import parse_list, parse_origins, parse_stack, parse_text
from inferline.settings import FILE_SECONDS_MAX, FILE_SECONDS_MIN, SQS_SECONDS_MAX

#: In names that are not ours: the CDK's own flags and what it looked up.
_FOREIGN: Final = re.compile(r"[@:/]")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MODEL_CHARS_MAX: Final = 256
#: The periods that CloudWatch Logs knows, as far as they make sense here, days.
LOG_DAYS: Final = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)
#: A message must stay until its request's time is over: as long as an answer may take.
QUEUE_SECONDS_MIN: Final = 900

_option = partial(options.declare, in_context=True)


def _parse_models(value: object) -> tuple[str, ...]:
    models = parse_list(value)
    are_right = all(0 < len(model) <= _MODEL_CHARS_MAX and "," not in model for model in models)
    if not are_right or len(set(models)) < len(models):
        raise ValueError("must be 1 to 256 characters each, without commas, and each only once")
    return models


def _parse_email(value: object) -> str:
    email = parse_text(value)
    if email and not _EMAIL.fullmatch(email):
        raise ValueError("must be an e-mail address")
    return email


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a stack."""

    stack: str = _option(
        "inferline",
        "Name of the stack, and prefix of the names of all its resources; at most 13 characters. "
        "Two stacks of one account need different names, even in different regions.",
        parse=parse_stack,
    )
    models: tuple[str, ...] = _option(
        (),
        "Models whose queues exist from the start. Others are added when a provider enrols them.",
        parse=_parse_models,
    )
    edge: str = _option(
        "stream",
        "`stream`: answers are streamed and may take 15 minutes. `buffered`: an answer is sent "
        "whole, within 29 s; for emulators and tiny installations.",
        choices=("stream", "buffered"),
    )
    architecture: str = _option(
        "arm64",
        "Processor of the functions: `arm64`, or `x86_64` for emulators.",
        choices=("arm64", "x86_64"),
    )
    task_seconds_kept: int = _option(
        3600,
        "How long a task's rows, including its answer, stay after its deadline. Below 1800 the "
        "usage may lack some requests.",
    )
    idempotency_seconds_kept: int = _option(
        24 * 3600,
        "How long a task with an Idempotency-Key, including its answer, stays after its submit.",
    )
    queue_seconds_kept: int = _option(
        3600,
        "How long SQS keeps a message, including its prompt. Queues that an enrolment has created "
        "do not change.",
        between=(QUEUE_SECONDS_MIN, SQS_SECONDS_MAX),
    )
    dead_letter_seconds_kept: int = _option(
        24 * 3600,
        "How long a dead letter, including its prompt, stays after its submit; at least "
        "`queue_seconds_kept`.",
        between=(QUEUE_SECONDS_MIN, SQS_SECONDS_MAX),
    )
    body_days_kept: int = _option(
        1, "How long request bodies that are too large for a message stay in their bucket."
    )
    file_seconds_kept: int = _option(
        30 * 24 * 3600,
        "How long a file of the Files API is kept, also an input or a result of a batch; the "
        "longest that `expires_after` may ask for.",
        between=(FILE_SECONDS_MIN, FILE_SECONDS_MAX),
    )
    model_seconds_kept: int = _option(
        7 * 24 * 3600,
        "How long a model without providers stays listed, unless `models` names it.",
        zero="forever",
    )
    usage_days_kept: int = _option(400, "How long the usage of tenants is kept.")
    log_days: int = _option(30, "How long logs are kept.", choices=LOG_DAYS)
    alarm_email: str = _option(
        "", "E-mail address for alarms; empty: CloudWatch only shows them.", parse=_parse_email
    )
    inference_mb: int = _option(
        512,
        "Memory of the function that waits for answers, MB. Its CPU grows with it, and it is the "
        "largest part of a request's cost.",
        between=(128, 10240),
    )
    flush_milliseconds: int = _option(
        2000,
        "How long a provider collects a stream's bytes into one chunk, once the stream flows; "
        "clients get it in steps of 100 ms. Fewer chunks cost less and arrive later.",
    )
    compress: bool = _option(
        False,
        "Compress answers for clients that accept it: a tenth of the traffic, which is a third of "
        "the cost of a streamed request.",
    )
    cors_origins: tuple[str, ...] = _option(
        (),
        "Origins whose web pages may call the API, such as `https://app.example`; `*` for any. "
        "Preflight requests need no key; API Gateway answers them.",
        parse=parse_origins,
    )
    requests_per_second: int = _option(100, "Requests per second of all callers. More: 429.")
    requests_burst: int = _option(200, "Requests at the same moment. More: 429.")
    tenant_requests_per_minute: int = _option(
        3000,
        "Requests per minute of all keys of a tenant without a limit of its own. More: 429.",
        zero="no limit",
    )
    tenant_concurrent_requests: int = _option(
        256,
        "Requests at once of such a tenant. More: 429. With no limit here and above, each request "
        "saves two writes.",
        zero="no limit",
    )
    waf: bool = _option(
        False, "Put a firewall before the API, with a limit per address. About 6 USD a month."
    )
    waf_requests: int = _option(2000, "With the firewall: requests of one address in 5 minutes.")
    traces: bool = _option(
        False,
        "X-Ray traces of the API and its functions, at 5 USD a million. With few requests, each is "
        "traced.",
    )
    page: bool = _option(
        True,
        "The dashboard on CloudFront; it costs nothing while nobody looks. Turn it off if your "
        "account may not use CloudFront.",
    )
    reserved_concurrency: bool = _option(
        True,
        "Limit how many of each function run at once. Takes 817 of an account's concurrent "
        "executions; turn it off if the quota is below 917.",
    )
    api_log_role: bool = _option(
        True,
        "Create the role with which API Gateway writes logs, one for the whole account and region; "
        "turn it off if there is one.",
    )
    protect: bool = _option(
        False,
        "Tables, buckets and key cannot be deleted, and outlive the stack. For production.",
    )

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Self:
        """Return the options of the CDK's context. Raises SettingsError with all problems."""
        ours = {name: value for name, value in context.items() if not _FOREIGN.search(name)}
        return options.read_context(cls, ours)

    def problems(self) -> list[str]:
        """Return which options contradict each other."""
        if self.queue_seconds_kept <= self.dead_letter_seconds_kept:
            return []
        return ["dead_letter_seconds_kept must be at least queue_seconds_kept"]


def documented() -> list[str]:
    """Return a line for each option, as `cdk.json` has them."""
    return [f"{option.name}: {option.sentences}" for option in options_of(Options)]
