"""How many tokens a request may take, before it has run."""

from __future__ import annotations

import pytest

from inferline.gateway.submit.estimate import MEDIA_TOKENS, tokens_of
from inferline.settings import Settings
from inferline.validation.payload import read

SETTINGS = Settings(output_tokens_assumed=50)
CHAT = "/v1/chat/completions"


def estimated(body: bytes, path: str = CHAT) -> int:
    return tokens_of(path, read(body), body, SETTINGS)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (b"", 50),
        (b',"max_tokens":7', 7),
        (b',"max_completion_tokens":8', 8),
        (b',"max_output_tokens":9', 9),
        (b',"max_tokens":7,"max_completion_tokens":8', 8),
        (b',"max_tokens":0', 0),
        (b',"max_tokens":7,"n":3', 21),
        (b',"n":2', 100),
        (b',"n_predict":-1', 50),
    ],
)
def test_a_request_may_take_its_prompt_and_the_longest_answer(fields: bytes, answer: int) -> None:
    body = b'{"model":"m","messages":[]' + fields + b"}"

    assert -(-len(body) // 4) + answer == estimated(body)


def test_each_prompt_of_a_completion_has_an_answer() -> None:
    body = b'{"model":"m","prompt":["a","b","c"],"n":2,"max_tokens":10}'

    assert -(-len(body) // 4) + 60 == estimated(body, "/v1/completions")


def test_what_writes_nothing_takes_its_prompt_alone() -> None:
    body = b'{"model":"m","input":"some text"}'

    assert -(-len(body) // 4) == estimated(body, "/v1/embeddings")


@pytest.mark.parametrize("begin", [b"data:image/png;base64,", b""])
def test_an_image_is_not_counted_by_its_bytes(begin: bytes) -> None:
    image = b'"' + begin + b"iVBOR/+w0" * 50_000 + b'"'
    body = b'{"model":"m","max_tokens":0,"messages":[{"content":[{"data":' + image + b"}]}]}"

    assert MEDIA_TOKENS < estimated(body) < MEDIA_TOKENS + 50


def test_a_long_text_is_counted_by_its_bytes() -> None:
    body = b'{"model":"m","max_tokens":0,"messages":[{"content":"' + b"word " * 4000 + b'"}]}'

    assert estimated(body) > 5000
