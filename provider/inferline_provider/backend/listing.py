"""Reading a backend's list of models: servers have many names for the same field."""

from __future__ import annotations

from typing import Any, Final

from inferline.fleet.enrolment import WHOLE_MAX, OfferedModel
from inferline.terminal import printable

#: Names of the field with a model's context length; first those for the length as it is served.
_LENGTHS: Final = (
    "max_model_len",
    "context_length",
    "loaded_context_length",
    "context_window",
    "n_ctx",
    "context_size",
    "max_context_length",
    "max_context_window",
    "max_context_window_tokens",
    "max_context_tokens",
    "max_total_tokens",
    "max_input_tokens",
    "max_input_length",
    "max_seq_len",
    "max_sequence_length",
    "n_ctx_train",
    "max_position_embeddings",
)


def entries(document: Any) -> list[Any] | None:
    """Return the entries of a list of models, as OpenAI has it or bare; None if it is no list."""
    listed = document.get("data") if isinstance(document, dict) else document
    return listed if isinstance(listed, list) and (listed or listed is not document) else None


def model(entry: Any) -> OfferedModel | None:
    """Return the model of an entry, which may be its name alone; None if it has no name."""
    if isinstance(entry, str):
        entry = {"id": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    owner = entry.get("owned_by")
    # The name is checked when it is offered: an alias may stand in for one that clients can't use.
    return OfferedModel.model_construct(
        id=entry["id"],
        # The gateway takes no other characters, and a name is no reason to stay out.
        owned_by=printable(owner[:128]) if isinstance(owner, str) else "inferline",
        created=_whole(entry.get("created")),
        context_length=_context_length(entry),
    )


def _context_length(entry: dict[str, Any]) -> int | None:
    inner = [value for value in entry.values() if isinstance(value, dict)]
    for where in (entry, *inner):  # llama.cpp has a `meta`, others `limits` and the like.
        for name in _LENGTHS:
            if value := _whole(where.get(name)):
                return value
    return None


def _whole(value: Any) -> int:
    """Return a number above 0 that the gateway takes, else 0: an odd one must not stop us."""
    return value if type(value) is int and 0 < value <= WHOLE_MAX else 0
