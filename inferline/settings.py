"""The gateway's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

from inferline.deployment import DeploymentSettings
from inferline.http.proxies import Proxies
from inferline.options import SettingsError, declare, options_of, read, renamed, unknown

if TYPE_CHECKING:
    import argparse

__all__ = ["KNOWN", "SQS_SECONDS_MAX", "Settings", "SettingsError", "warnings"]

#: SQS keeps no message for longer.
SQS_SECONDS_MAX: Final = 14 * 24 * 3600
#: How long a file may be kept, seconds: what OpenAI's `expires_after` takes.
FILE_SECONDS_MIN: Final = 3600
FILE_SECONDS_MAX: Final = 30 * 24 * 3600
_NO_LIMIT: Final = "no limit"
#: Variables that other parts of InferLine read; a test compares them with the code.
_ELSEWHERE: Final = """
    API_KEY BASE_URL CACHE_DIR FILL_SLOTS OWN_CREDENTIALS LOCAL_BACKEND LOCAL_CONTEXT
    LOCAL_EMULATOR_PORT LOCAL_HOST LOCAL_LLM_PORT LOCAL_MODEL LOCAL_NO_LLM LOCAL_PORT LOCAL_SLOTS
    LOCAL_THREADS
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(DeploymentSettings):
    """All settings of a gateway, and those that providers get from it."""

    body_bytes_max: int = declare(6_000_000, "Largest request body. Larger: 413.")
    inline_bytes_max: int = declare(
        192 * 1024, "Largest message that contains the request body. Larger bodies go to S3."
    )
    depth_max: int = declare(64, "Deepest nesting of a JSON body. Deeper: 400.")
    remote_hosts: str = declare(
        "",
        "Hosts of MCP servers, and hosts from which LLM servers may fetch the images, audio, video "
        "and files that a request names, separated by commas; `host:port` for an unusual port. "
        "Another host: 400.",
    )
    messages_max: int = declare(
        2048,
        "Most messages of a chat, input items of a response, or prompts, texts or documents of a "
        "request. More: 400.",
        zero=_NO_LIMIT,
    )
    parts_max: int = declare(512, "Most parts of one message. More: 400.", zero=_NO_LIMIT)
    tools_max: int = declare(256, "Most tools of a request. More: 400.", zero=_NO_LIMIT)
    choices_max: int = declare(
        8, "Most answers to one prompt (`n`, `best_of`). More: 400.", zero=_NO_LIMIT
    )
    logprobs_max: int = declare(
        20, "Most logprobs of a token (`top_logprobs` and similar). More: 400.", zero=_NO_LIMIT
    )
    output_tokens_max: int = declare(
        131_072, "Largest `max_tokens` of a request. More: 400.", zero=_NO_LIMIT
    )
    grammar_chars_max: int = declare(
        16_384, "Longest regular expression or grammar of a request. Longer: 400.", zero=_NO_LIMIT
    )
    key_requests_per_minute: int = declare(
        0, "Requests per minute of an API key without a limit of its own.", zero=_NO_LIMIT
    )
    key_tokens_per_minute: int = declare(
        0, "Tokens per minute, prompt and answer, of such a key.", zero=_NO_LIMIT
    )
    key_tokens_per_day: int = declare(0, "Tokens per day (UTC) of such a key.", zero=_NO_LIMIT)
    key_concurrent_requests: int = declare(0, "Requests at once of such a key.", zero=_NO_LIMIT)
    tenant_requests_per_minute: int = declare(
        3000,
        "Requests per minute of all keys of a tenant without a limit of its own.",
        zero=_NO_LIMIT,
    )
    tenant_tokens_per_minute: int = declare(
        0, "Tokens per minute, prompt and answer, of such a tenant.", zero=_NO_LIMIT
    )
    tenant_tokens_per_day: int = declare(
        0, "Tokens per day (UTC) of such a tenant.", zero=_NO_LIMIT
    )
    tenant_concurrent_requests: int = declare(
        256, "Requests at once of such a tenant.", zero=_NO_LIMIT
    )
    output_tokens_assumed: int = declare(
        1024,
        "Length of an answer for the limits, until it has ended, if its request sets no "
        "`max_tokens`. The backend does not get this number.",
    )
    request_seconds_max: float = declare(
        600.0, "Longest time from submit to the end of the answer. Longer: 504."
    )
    reader_seconds: float = declare(
        20.0,
        "Reader lease: a gateway waiting for an answer renews it at half this time. After it "
        "lapses, a client's retry may take over the task.",
    )
    unread_task_seconds: float = declare(
        60.0,
        "How long a provider continues a task after its reader lease has lapsed.",
        old_names=("INFERLINE_ORPHAN_SECONDS",),
    )
    cancel_seconds: float = declare(
        0.4, "How often a provider checks whether its tasks were cancelled."
    )
    no_provider_seconds: float = declare(
        20.0, "How long a request waits while no provider serves its model. Longer: 503."
    )
    queue_depth_max: int = declare(1000, "Most waiting tasks per model and tier. More: 429.")
    tenant_share: float = declare(
        1.0,
        "How many open requests a tenant may have at a model, as a share of the model's slots, "
        "before its next ones wait in the `flex` queue, behind all others.",
        zero=_NO_LIMIT,
    )
    first_byte_wait_seconds: float = declare(
        20.0,
        "How long a stream's status line waits for the first bytes before it is sent as 200.",
        old_names=("INFERLINE_HEAD_SECONDS_MAX",),
    )
    response_model: str = declare(
        "backend",
        "Model name in answers: `backend` keeps what the backend wrote; `requested` replaces it by "
        "the name in the request, for which all answers are parsed.",
        choices=("backend", "requested"),
        old_names=("INFERLINE_ANSWER_MODEL",),
        old_values={"told": "backend", "asked": "requested"},
    )
    compression: str = declare(
        "none",
        "`gzip` compresses answers for clients that accept it: less traffic, more CPU.",
        choices=("none", "gzip"),
    )
    ping_seconds: float = declare(15.0, "Interval of the comments that keep a silent stream open.")
    keepalive_after_seconds: float = declare(
        600.0,
        "If an answer that is not streamed takes longer than this, the gateway sends spaces, which "
        "keep its connection open. Its status is then 200; on failure the connection is closed.",
        old_names=("INFERLINE_BLANK_SECONDS",),
    )
    drain_seconds: float = declare(
        10.0,
        "How long a stopping gateway lets its requests finish. Then the clients of the others have "
        "to reconnect; their tasks continue.",
    )
    poll_seconds_min: float = declare(0.005, "Shortest pause between two polls for an answer.")
    poll_seconds_max: float = declare(0.2, "Longest pause between two polls for an answer.")
    poll_share: float = declare(
        0.05,
        "Pause before the next poll as a share of the time waited so far; twice as much for an "
        "answer that is not streamed.",
    )
    registry_seconds: float = declare(
        1.0, "How old the gateway's copy of the registry, and of each model's counts, may be."
    )
    overview_seconds: float = declare(3.0, "How old the overview may be that a gateway shows.")
    figures_seconds: float = declare(5.0, "Interval at which a gateway writes its minute metrics.")

    batch_bytes_max: int = declare(
        200_000_000, "Largest input file of a batch. Larger: the batch fails."
    )
    batch_lines_max: int = declare(50_000, "Most lines of a batch. More: the batch fails.")
    tenant_batch_lines_max: int = declare(
        500_000,
        "Most lines without a result in all batches of a tenant. More: the newest batch fails.",
        zero=_NO_LIMIT,
    )
    batch_sort: str = declare(
        "prefix",
        "`prefix` runs lines with the same system message one after the other, so that a backend "
        "computes it once; `none` keeps the file's order.",
        choices=("prefix", "none"),
    )
    file_bytes_max: int = declare(
        512 * 1024 * 1024,
        "Largest file, uploaded in one request or in parts. Larger: 413; in parts: 400.",
    )
    upload_part_bytes_max: int = declare(
        64 * 1024 * 1024, "Largest part of an upload (`POST /v1/uploads/{id}/parts`). Larger: 413."
    )
    file_transfers_max: int = declare(
        16,
        "Most files and parts that one gateway receives and sends at the same time; each needs up "
        "to 24 MiB of memory. More: 503.",
    )
    file_seconds_kept: int = declare(
        30 * 24 * 3600,
        "How long a file is kept, whatever its purpose; the longest that `expires_after` may ask "
        "for.",
        between=(FILE_SECONDS_MIN, FILE_SECONDS_MAX),
    )
    upload_seconds: int = declare(
        3600,
        "How long a client may take to send the parts of an upload and complete it.",
        between=(60, 24 * 3600),
    )

    lease_seconds: float = declare(
        30.0, "Lease of a claim; the provider renews it at a third of this time."
    )
    attempts_max: int = declare(3, "Most attempts at a task before it fails.")
    enrol_seconds: float = declare(10.0, "Interval of a provider's enrolments, its heartbeat.")
    silent_seconds: float = declare(35.0, "A provider counts as gone after this time in silence.")
    flush_seconds: float = declare(
        0.1,
        "How long a provider collects a stream's bytes into one chunk; less for the first chunks.",
    )
    smooth_seconds: float = declare(
        0.1, "A chunk that took longer than this to collect is sent in steps of this length."
    )
    flush_bytes: int = declare(16 * 1024, "How many bytes a provider collects into one chunk.")
    first_byte_seconds_max: float = declare(
        600.0,
        "How long a backend may take to the first byte of an answer; one that is not streamed "
        "begins when it is complete. While the backend reports that it is working, the request's "
        "deadline applies instead.",
    )
    first_event_seconds_max: float = declare(
        5.0,
        "How long a backend may take to the first event of a stream if another provider serves the "
        "model. Then that one gets the task, once, unless the backend reports that it is working.",
    )
    gap_seconds_max: float = declare(
        300.0,
        "How long a backend may be silent within an answer. While it reports that it is working, "
        "the request's deadline applies instead.",
    )
    busy_seconds_max: float = declare(
        30.0,
        "How long a request waits for a backend that refuses it with 429 or 503 if no other "
        "provider takes it. Then the client gets the backend's answer.",
    )
    answer_bytes_max: int = declare(64 * 1024 * 1024, "Largest answer of a backend.")
    strikes_max: int = declare(
        5,
        "Invalid answers of a provider in an hour until it is quarantined. To end that: `inferline "
        "providers pardon`.",
        zero=_NO_LIMIT,
    )
    task_seconds_kept: int = declare(
        3600,
        "How long a task's rows, including its answer, stay after its deadline. Below 1800 the "
        "usage may lack some requests.",
    )
    idempotency_seconds_kept: int = declare(
        24 * 3600,
        "How long a task with an Idempotency-Key, including its answer, stays after its submit.",
    )
    queue_seconds_kept: int = declare(
        3600,
        "How long SQS keeps a message, including its prompt; at least "
        "`INFERLINE_REQUEST_SECONDS_MAX`. Existing queues do not change.",
        between=(60, SQS_SECONDS_MAX),
    )
    dead_letter_seconds_kept: int = declare(
        24 * 3600,
        "How long a dead letter, including its prompt, stays after its submit; at least "
        "`INFERLINE_QUEUE_SECONDS_KEPT`.",
        between=(60, SQS_SECONDS_MAX),
    )
    model_seconds_kept: int = declare(
        7 * 24 * 3600,
        "How long a model without providers stays listed, unless `INFERLINE_MODELS` names it.",
        zero="forever",
    )
    usage_days_kept: int = declare(400, "How long the usage of tenants is kept.")

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], arguments: argparse.Namespace | None = None
    ) -> Self:
        """Return the settings of an environment. Raises SettingsError with all problems."""
        return read(cls, {**environ, **Proxies.from_env(environ).environment()}, arguments)

    def problems(self) -> list[str]:
        """Return which values contradict each other."""
        ascending = {
            "INFERLINE_REQUEST_SECONDS_MAX": self.request_seconds_max,
            "INFERLINE_QUEUE_SECONDS_KEPT": self.queue_seconds_kept,
            "INFERLINE_DEAD_LETTER_SECONDS_KEPT": self.dead_letter_seconds_kept,
        }
        return [
            f"{name} must be at least {before}, got {value} and {least:g}"
            for (before, least), (name, value) in pairwise(ascending.items())
            if value < least
        ]


#: Every variable INFERLINE_… that some part of InferLine reads.
KNOWN: Final = frozenset(
    [name for option in options_of(Settings) for name in option.names]
    + [f"INFERLINE_{name}" for name in _ELSEWHERE.split()]
)


def warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each old name, old value and unknown variable of an environment."""
    return [*renamed(Settings, environ), *unknown(environ, KNOWN)]
