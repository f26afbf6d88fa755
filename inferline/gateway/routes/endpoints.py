"""The inference endpoints: each address, and where a backend has the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from inferline.validation.forwarding import ANTHROPIC


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint whose requests are passed to a backend, and their answers back."""

    path: str
    backend_path: str
    summary: str
    #: The fields of a body besides `model`, for the documentation; the backend checks them.
    example: dict[str, Any]
    method: Literal["POST", "GET"] = "POST"
    #: The part of a form that is a file; empty where the body is never a form.
    file: str = ""
    #: False where servers have one model, so that clients name none.
    needs_model: bool = True
    #: The client's headers that are passed to the backend.
    headers: tuple[str, ...] = ()


_CHAT: Final = {"messages": [{"role": "user", "content": "Hello!"}], "stream": True}
_TEXT: Final = {"input": "a text"}
_IMAGE: Final = {"prompt": "a red cup"}

ENDPOINTS: Final = (
    Endpoint("/chat/completions", "/v1/chat/completions", "Complete a chat", _CHAT),
    Endpoint("/completions", "/v1/completions", "Complete a text", {"prompt": "Once upon a time"}),
    Endpoint("/embeddings", "/v1/embeddings", "Embed texts", _TEXT),
    Endpoint("/responses", "/v1/responses", "Create a response", {"input": "Hello!"}),
    Endpoint(
        "/messages",
        "/v1/messages",
        "Create a message, in Anthropic's format",
        {**_CHAT, "max_tokens": 64},
        headers=ANTHROPIC,
    ),
    Endpoint(
        "/messages/count_tokens",
        "/v1/messages/count_tokens",
        "Count the tokens of a message request",
        {"messages": _CHAT["messages"]},
        headers=ANTHROPIC,
    ),
    Endpoint(
        "/rerank", "/v1/rerank", "Rank documents", {"query": "tea", "documents": ["leaf", "bean"]}
    ),
    Endpoint("/score", "/v1/score", "Score pairs of texts", {"text_1": "tea", "text_2": ["leaf"]}),
    Endpoint("/classify", "/classify", "Classify texts", _TEXT),
    Endpoint("/pooling", "/pooling", "Embed texts, in the model's own format", _TEXT),
    Endpoint(
        "/chat/completions/input_tokens",
        "/v1/chat/completions/input_tokens",
        "Count the tokens of a chat",
        _CHAT,
    ),
    Endpoint(
        "/responses/input_tokens",
        "/v1/responses/input_tokens",
        "Count the tokens of a response's input",
        {"input": "Hello!"},
    ),
    Endpoint(
        "/tokenize",
        "/tokenize",
        "Tokenize a text",
        {"prompt": "a text", "content": "a text"},
        needs_model=False,
    ),
    Endpoint(
        "/detokenize",
        "/detokenize",
        "Turn tokens into text",
        {"tokens": [1, 2]},
        needs_model=False,
    ),
    Endpoint(
        "/tokenizer_info",
        "/tokenizer_info",
        "Get the tokenizer's configuration",
        {},
        method="GET",
        needs_model=False,
    ),
    Endpoint(
        "/infill",
        "/infill",
        "Fill in code",
        {"input_prefix": "def add(", "input_suffix": "return a + b"},
        needs_model=False,
    ),
    Endpoint(
        "/apply-template",
        "/apply-template",
        "Render a chat as its model reads it",
        _CHAT,
        needs_model=False,
    ),
    Endpoint(
        "/audio/transcriptions",
        "/v1/audio/transcriptions",
        "Transcribe speech",
        {},
        file="file",
    ),
    Endpoint(
        "/audio/translations",
        "/v1/audio/translations",
        "Translate speech into English text",
        {},
        file="file",
    ),
    Endpoint("/audio/speech", "/v1/audio/speech", "Read a text aloud", {**_TEXT, "voice": "alloy"}),
    Endpoint("/images/generations", "/v1/images/generations", "Create an image", _IMAGE),
    Endpoint("/images/edits", "/v1/images/edits", "Edit an image", _IMAGE, file="image"),
    Endpoint("/images/variations", "/v1/images/variations", "Vary an image", {}, file="image"),
)
