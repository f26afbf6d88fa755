"""Every setting: its name, unit, default and meaning, read once from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, Self, cast

from inferline.http.proxies import Proxies

#: What a value that is no text has to be.
_KINDS: Final = {int: "whole number", float: "number"}
#: What a browser calls a page's place: no path, not even a slash.
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*]+")
#: No queue keeps a message for longer.
SQS_SECONDS_MAX: Final = 14 * 24 * 3600


class SettingsError(ValueError):
    """One or more settings can't be used; the message names each."""


def _setting(
    default: Any,
    doc: str,
    *,
    name: str | None = None,
    secret: bool = False,
    choices: tuple[str, ...] = (),
    shown: str = "",
    zero: bool = False,
) -> Any:
    """
    ``shown`` stands for a default that is made of other settings; with ``zero`` that is no limit.
    """
    doc += " 0: no limit." if zero else ""
    metadata = {"doc": doc, "name": name, "choices": choices, "shown": shown, "zero": zero}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What an operator can set. The environment name is ``INFERLINE_`` and the field in capitals.
    """

    stack: str = _setting("inferline", "Prefix of all names, 13 characters at most.")
    tasks_table: str = _setting("", "DynamoDB table of tasks and chunks.", shown="<stack>-tasks")
    registry_table: str = _setting(
        "", "DynamoDB table of models, providers and keys.", shown="<stack>-registry"
    )
    bodies_bucket: str = _setting("", "S3 bucket of large request bodies.", shown="<stack>-bodies")
    region: str = _setting("us-east-1", "AWS region.", name="AWS_REGION")
    endpoint_url: str = _setting(
        "", "Where AWS is, if not at AWS: an emulator's address.", name="AWS_ENDPOINT_URL"
    )
    http_proxy: str = _setting(
        "",
        "Proxy for http addresses, `http://name:password@host:port`; `ALL_PROXY` stands for both, "
        "and small letters go first, as with curl.",
        name="HTTP_PROXY",
        secret=True,
    )
    https_proxy: str = _setting(
        "", "The same for https addresses, AWS's among them.", name="HTTPS_PROXY", secret=True
    )
    no_proxy: str = _setting(
        "",
        "What is asked without a proxy, separated by commas: hosts and domains, with a port or "
        "without, addresses, networks such as `10.0.0.0/8`, or `*`. This machine always is.",
        name="NO_PROXY",
    )

    access: str = _setting(
        "open",
        "Who may ask: `keys` takes only callers with a key, `open` everybody.",
        choices=("open", "keys"),
    )
    provider_token: str = _setting(
        "",
        "What a provider must show to enrol where access is open; empty: anyone may. With keys "
        "each provider has a token of its own.",
        secret=True,
    )

    cors_origins: str = _setting(
        "",
        "Origins whose pages may ask from a browser, as `https://app.example`, separated by "
        "commas; `*` for any. Their preflights need no key.",
    )
    models: str = _setting(
        "", "Models that are known before a provider enrols them, separated by commas."
    )
    provider_role: str = _setting(
        "", "ARN of the IAM role whose short-lived credentials enrolled providers get."
    )
    credentials_seconds: int = _setting(
        3600, "How long those credentials last; 900 to 3600, as AWS has it for such a role."
    )
    kms_key: str = _setting("", "ARN of the KMS key of queues that an enrolment makes.")

    body_bytes_max: int = _setting(6_000_000, "Largest request body, bytes. Larger: 413.")
    inline_bytes_max: int = _setting(
        192 * 1024, "Largest message with the body in it, bytes. Larger bodies wait in S3."
    )
    depth_max: int = _setting(64, "Deepest nesting of a JSON body. Deeper: 400.")
    remote_hosts: str = _setting(
        "",
        "Hosts from which LLM servers may fetch the images, audio, video and files that a request "
        "names, and hosts of MCP servers, separated by commas; `host:port` for unusual ports. "
        "Another address: 400.",
    )
    messages_max: int = _setting(
        2048,
        "Most messages of a chat, items of a response's input, prompts, texts or documents of a "
        "request. More: 400.",
        zero=True,
    )
    parts_max: int = _setting(512, "Most parts of one message. More: 400.", zero=True)
    tools_max: int = _setting(256, "Most tools of a request. More: 400.", zero=True)
    choices_max: int = _setting(
        8, "Most answers to one prompt, `n` and `best_of`. More: 400.", zero=True
    )
    logprobs_max: int = _setting(
        20, "Most logprobs of a token, `top_logprobs` and its like. More: 400.", zero=True
    )
    output_tokens_max: int = _setting(
        131_072, "Most tokens that an answer may be asked for, `max_tokens`. More: 400.", zero=True
    )
    grammar_chars_max: int = _setting(
        16_384,
        "Longest regular expression or grammar that an answer is to follow, characters. "
        "Longer: 400.",
        zero=True,
    )
    key_requests_per_minute: int = _setting(
        0, "Requests that a key may make in a minute, unless it has a limit of its own.", zero=True
    )
    key_tokens_per_minute: int = _setting(
        0, "Tokens, of prompt and answer, that a key may use in a minute, likewise.", zero=True
    )
    key_tokens_per_day: int = _setting(
        0, "Tokens that a key may use in a day of UTC, likewise.", zero=True
    )
    key_concurrent_requests: int = _setting(
        0, "Requests of a key that may be under way at once, likewise.", zero=True
    )
    tenant_requests_per_minute: int = _setting(
        3000,
        "Requests that all keys of a tenant together may make in a minute, unless the tenant has a "
        "limit of its own.",
        zero=True,
    )
    tenant_tokens_per_minute: int = _setting(
        0, "Tokens, of prompt and answer, that a tenant may use in a minute, likewise.", zero=True
    )
    tenant_tokens_per_day: int = _setting(
        0, "Tokens that a tenant may use in a day of UTC, likewise.", zero=True
    )
    tenant_concurrent_requests: int = _setting(
        256, "Requests of a tenant that may be under way at once, likewise.", zero=True
    )
    output_tokens_assumed: int = _setting(
        1024,
        "How long an answer is taken to be until it has ended, tokens, where a request sets no "
        "`max_tokens`. It counts against limits, and is not passed on.",
    )
    request_seconds_max: float = _setting(
        600.0, "From submit to the end of the answer. Longer: 504."
    )
    reader_seconds: float = _setting(
        20.0,
        "How long a gateway that waits for an answer counts as its reader unless it says so again, "
        "which it does at half of that. After that a client's retry takes the task over.",
    )
    orphan_seconds: float = _setting(
        60.0, "How long past that a provider goes on with an answer that nobody reads."
    )
    cancel_seconds: float = _setting(
        0.4, "Between two looks of a provider at its tasks: how late it hears of a cancelled one."
    )
    no_provider_seconds: float = _setting(
        20.0, "How long a request waits while no provider serves its model. Longer: 503."
    )
    queue_depth_max: int = _setting(1000, "Waiting tasks per model and tier. More: 429.")
    tenant_share: float = _setting(
        1.0,
        "How many requests a tenant may have open at a model before its next one waits in the "
        "queue of `flex`, behind all others', as a share of the model's slots.",
        zero=True,
    )
    head_seconds_max: float = _setting(
        20.0, "How long a stream's status line waits for the first bytes before it is sent as 200."
    )
    answer_model: str = _setting(
        "told",
        "`asked` has each answer name the model that was asked for, whatever the provider wrote; "
        "for that all answers are parsed. `told` leaves them as they are.",
        choices=("told", "asked"),
    )
    compression: str = _setting(
        "none",
        "`gzip` sends answers compressed to clients that take it: less traffic for more CPU.",
        choices=("none", "gzip"),
    )
    ping_seconds: float = _setting(15.0, "Between comments that keep a silent stream open.")
    blank_seconds: float = _setting(
        600.0,
        "How long an answer that is not streamed may take before blanks keep its connection open. "
        "It is 200 from then on, and is broken off if it fails.",
    )
    drain_seconds: float = _setting(
        10.0,
        "How long requests under way may go on at a gateway that was asked to end. The rest is "
        "handed on: the tasks go on, and their clients come back for them.",
    )
    poll_seconds_min: float = _setting(0.005, "Shortest pause between two looks for an answer.")
    poll_seconds_max: float = _setting(0.2, "Longest pause between two looks for an answer.")
    poll_share: float = _setting(
        0.05,
        "How much of the time waited so far the next pause is, between these two. For an answer "
        "that is not streamed, pauses are twice as long.",
    )
    registry_seconds: float = _setting(
        1.0,
        "How old the gateway's picture of the registry may be, and the count of who serves each "
        "model.",
    )
    overview_seconds: float = _setting(3.0, "How old the overview may be that a gateway shows.")
    figures_seconds: float = _setting(5.0, "Between two writes of a gateway's figures.")

    lease_seconds: float = _setting(
        30.0, "How long a claim holds unless renewed; it is renewed at a third of that."
    )
    attempts_max: int = _setting(3, "How often a task is tried before it fails.")
    enrol_seconds: float = _setting(10.0, "Between two enrolments of a provider, its heartbeat.")
    silent_seconds: float = _setting(35.0, "Unheard for so long, a provider counts as gone.")
    flush_seconds: float = _setting(
        0.1,
        "How long a chunk of a stream gathers before it is written; a stream's first ones are "
        "written sooner.",
    )
    smooth_seconds: float = _setting(
        0.1,
        "What gathered for longer is handed out to the client in steps of so long, instead of all "
        "at once.",
    )
    flush_bytes: int = _setting(16 * 1024, "How much a chunk gathers before it is written, bytes.")
    first_byte_seconds_max: float = _setting(
        600.0,
        "How long a backend may take until the first byte of an answer; the first of an answer "
        "that is not streamed comes when all of it is there. A backend that tells that it works is "
        "waited for until the request's deadline.",
    )
    first_event_seconds_max: float = _setting(
        5.0,
        "How long a backend may take until the first event of a stream, where another provider "
        "serves the model: then that gets the task, once, unless the backend tells that it works.",
    )
    gap_seconds_max: float = _setting(
        300.0,
        "How long a backend's answer may stay silent once it has begun. A backend that tells that "
        "it works is waited for until the request's deadline.",
    )
    busy_seconds_max: float = _setting(
        30.0,
        "How long a request waits for a backend that refuses it with 429 or 503, where no other "
        "provider takes it. Then its client gets the backend's own answer.",
    )
    answer_bytes_max: int = _setting(64 * 1024 * 1024, "Largest answer of a backend, bytes.")
    strikes_max: int = _setting(
        5,
        "How often in an hour a provider may write what is no answer. At that it is refused, until "
        "`inferline providers pardon`.",
        zero=True,
    )
    task_seconds_kept: int = _setting(
        3600,
        "How long a task's rows, its answer included, stay after its deadline, seconds. With less "
        "than 1800 requests may be missing in the usage.",
    )
    idempotency_seconds_kept: int = _setting(
        24 * 3600,
        "How long a task whose client sent an Idempotency-Key stays after its submit, its answer "
        "included, seconds.",
    )
    queue_seconds_kept: int = _setting(
        3600,
        "How long a message, prompt included, may wait in a queue until SQS drops it, seconds; "
        "longer than any request may take, 1209600 at the most. Queues that are there stay as they "
        "were made.",
    )
    dead_letter_seconds_kept: int = _setting(
        24 * 3600,
        "How long after its submit a message that nobody could handle, prompt included, may wait "
        "to be buried, seconds; longer than in a queue, 1209600 at the most.",
    )
    model_seconds_kept: int = _setting(
        7 * 24 * 3600,
        "How long a model is listed that no provider has any more and `INFERLINE_MODELS` does not "
        "name, seconds.",
        zero=True,
    )
    usage_days_kept: int = _setting(400, "How long it is known what a tenant has used, days.")

    def __post_init__(self) -> None:
        """Name after the stack what was given no name."""
        for name in ("tasks_table", "registry_table", "bodies_bucket"):
            if not getattr(self, name):
                kind = name.partition("_")[0]
                object.__setattr__(self, name, f"{self.stack}-{kind}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Settings from an environment. Raises SettingsError with every problem in one message."""
        found: dict[str, Any] = {}
        problems: list[str] = []
        environ = {**environ, **Proxies.from_env(environ).environment()}
        for spec in fields(cls):
            text = environ.get(env_name(spec))
            if text is None or text == "":
                continue
            try:
                found[spec.name] = _parse(text, spec)
            except ValueError as error:
                problems.append(f"{env_name(spec)} {error}")
        settings = cls(**found)
        if problems := problems or settings.problems():
            raise SettingsError("; ".join(problems))
        return settings

    @property
    def proxies(self) -> Proxies:
        """The way to what is not on this machine."""
        return Proxies(self.http_proxy, self.https_proxy, self.no_proxy)

    @property
    def listed_models(self) -> tuple[str, ...]:
        """The models that are known before a provider enrols them."""
        return tuple(filter(None, map(str.strip, self.models.split(","))))

    def problems(self) -> list[str]:
        """What of the values can't be used together."""
        found = [
            f"INFERLINE_CORS_ORIGINS must be origins (https://a.example) or *, got {origin!r}"
            for origin in self.origins
            if origin != "*" and not ORIGIN.fullmatch(origin)
        ]
        kept = self.queue_seconds_kept, self.dead_letter_seconds_kept
        if self.request_seconds_max <= kept[0] <= kept[1] <= SQS_SECONDS_MAX and kept[0] >= 60:
            return found
        return [
            *found,
            "INFERLINE_QUEUE_SECONDS_KEPT must be at least 60 and INFERLINE_REQUEST_SECONDS_MAX, "
            "and INFERLINE_DEAD_LETTER_SECONDS_KEPT no less than that and at most "
            f"{SQS_SECONDS_MAX}, got {kept[0]} and {kept[1]}",
        ]

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of `cors_origins`."""
        return tuple(one.strip() for one in self.cors_origins.split(",") if one.strip())


def env_name(spec: Field[Any]) -> str:
    """The environment variable that sets a field."""
    return cast("str | None", spec.metadata["name"]) or f"INFERLINE_{spec.name.upper()}"


def markdown() -> str:
    """Every setting as a row of a table, for the documentation."""
    rows = [
        f"| `{env_name(spec)}` | {_shown(spec.metadata['shown'] or spec.default)} "
        f"| {spec.metadata['doc']} |"
        for spec in fields(Settings)
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def _shown(default: object) -> str:
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default else "none"


def _parse(text: str, spec: Field[Any]) -> Any:
    kind: type[Any] = type(spec.default)
    choices = spec.metadata["choices"]
    if choices and text not in choices:
        raise ValueError(f"must be {' or '.join(choices)}, got {text!r}")
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"must be a {_KINDS[kind]}, got {text!r}") from None
    if spec.metadata["zero"] and value == 0:
        return value
    if not 0 < value < float("inf"):
        raise ValueError(f"must be above 0 and finite, got {text!r}")
    return value
