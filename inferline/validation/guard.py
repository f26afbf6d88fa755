"""
The guard: refuses requests that would attack the host that a backend runs on.

A body goes to the backend byte for byte, so it can only be refused as a whole: for its fields
(`inferline.validation.fields`), or for a number or a list so large that one request would occupy
the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Self

from inferline.errors import FieldNotAllowed, SizeLimitExceeded
from inferline.settings import Settings
from inferline.validation.fields import FieldPolicy, Path, path_text
from inferline.validation.json_scan import JsonScan

#: The numbers that have a limit, and its name in `Guard`.
_BOUNDED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("n", "n_cmpl", "best_of"), "choices_max"),
    **dict.fromkeys(("logprobs", "top_logprobs", "prompt_logprobs", "n_probs"), "logprobs_max"),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "min_tokens"),
        "output_tokens_max",
    ),
}
_NUMBERS: Final = frozenset(_BOUNDED)
#: The lists whose length has the limit of `messages_max`: each of their items is work of its own.
_LISTS: Final = ("messages", "input", "prompt", "documents", "queries", "text_1", "text_2", "items")
_TOOLS: Final = ("tools", "functions", "mcp_servers")
#: Fields of the outermost object that decide where a task goes or have a limit. Backends in Go take
#: them in any case, and of two the last.
_LOWER: Final = frozenset(
    {"model", "stream", "service_tier", "priority", *_BOUNDED, *_LISTS, *_TOOLS}
)
#: The priority of a request inside vLLM or SGLang when it names none.
_NO_PRIORITY: Final = (None, 0, "0")
#: Between the names in that of a form's field.
_INNER: Final = re.compile(r"[\[\].]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The limits on a request's contents. A limit of infinity is none."""

    fields: FieldPolicy
    #: Deepest nesting of objects and arrays, the body itself counted.
    depth_max: int
    messages_max: float
    #: Of one message.
    parts_max: float
    tools_max: float
    #: Answers to one prompt.
    choices_max: float
    logprobs_max: float
    output_tokens_max: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make the guard that the settings describe."""
        hosts = (host.strip().lower() for host in settings.remote_hosts.split(","))
        return cls(
            fields=FieldPolicy(
                hosts=frozenset(host for host in hosts if host),
                grammar_chars_max=settings.grammar_chars_max or inf,
            ),
            depth_max=settings.depth_max,
            messages_max=settings.messages_max or inf,
            parts_max=settings.parts_max or inf,
            tools_max=settings.tools_max or inf,
            choices_max=settings.choices_max or inf,
            logprobs_max=settings.logprobs_max or inf,
            output_tokens_max=settings.output_tokens_max or inf,
        )

    def check(self, document: Mapping[str, Any], outline: JsonScan) -> None:
        """Check a document. Raises FieldNotAllowed, AddressNotAllowed, SizeLimitExceeded."""
        _check_spelling(document)
        _check_priority(document)
        if not _NUMBERS.isdisjoint(document):
            for name in _NUMBERS.intersection(document):
                self._check_number(name, document[name])
        if outline.longest > min(self.messages_max, self.parts_max, self.tools_max):
            self._check_lengths(document)
        self.fields.check(document, outline)

    def check_field(self, name: str, value: Any) -> None:
        """
        Check a field of a form or a query; raises as `check`.

        Its name may hold others, as in ``image[url]``, and so may its value, if it was JSON.
        """
        for key in filter(None, _INNER.split(name)):
            document = {key: value}
            outline = JsonScan.of_document(document, self.depth_max)
            _check_spelling(document)
            _check_priority(document)
            if key in _NUMBERS:
                self._check_number(key, value)
            self.fields.check_field(document, outline)

    def _check_number(self, name: str, value: Any) -> None:
        bound = _BOUNDED[name]
        limit = getattr(self, bound)
        if isinstance(value, str):  # Some backends take it for a number; what is none, they refuse.
            with suppress(ValueError):
                value = float(value)
        if not isinstance(value, int | float):
            return
        # Of logprobs -1 means all tokens that there are.
        if value > limit or (bound == "logprobs_max" and value < 0 and limit < inf):
            raise SizeLimitExceeded(f"`{name}` may be {limit} at the most.", param=name)

    def _check_lengths(self, document: Mapping[str, Any]) -> None:
        for name in _LISTS:
            value, path = document.get(name), (None, name)
            if isinstance(value, dict):
                self._check_parts(value, path)
            # A list of numbers is one prompt, in tokens.
            elif isinstance(value, list) and value and not isinstance(value[0], int | float):
                _check_length(value, self.messages_max, path)
                for place, item in enumerate(value):
                    self._check_parts(item, (path, place))
        for name in _TOOLS:
            _check_length(document.get(name), self.tools_max, (None, name))

    def _check_parts(self, item: Any, path: Path) -> None:
        if isinstance(item, dict):
            for name in ("content", "output"):
                _check_length(item.get(name), self.parts_max, (path, name))
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            _check_length(item, self.parts_max, path)


#: That of a gateway whose operator has set nothing.
STANDARD: Final = Guard.from_settings(Settings())


def _check_length(value: Any, limit: float, path: Path) -> None:
    if isinstance(value, list) and len(value) > limit:
        where = path_text(path)
        raise SizeLimitExceeded(f"`{where}` may have {limit} items at the most.", param=where)


def _check_priority(document: Mapping[str, Any]) -> None:
    """Refuse a place in the LLM server's queue: nobody there knows who may pass whom."""
    if document.get("priority") not in _NO_PRIORITY:
        message = "Choose a queue with `service_tier`; `priority` may only be 0."
        raise FieldNotAllowed(message, param="priority")


def _check_spelling(document: Mapping[str, Any]) -> None:
    for name in document.keys() - _LOWER:
        if name.casefold() in _LOWER:
            raise FieldNotAllowed(
                f"Write `{name.casefold()}` in lower case.", param=name.casefold()
            )
