"""Names of models: whatever they are, they name queues and keys, and each its own."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from inferline.aws.sqs import queue_name
from inferline.names import DEDICATED_SLUG_PREFIX, NAME, base_name, dedicated_name, model_hash, slug
from inferline.tasks.task import QUEUE_TIERS
from tests.support.fuzzing import fuzz, tried

#: As SQS has it; `.fifo` at the end would be a queue of another kind.
QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}")
#: As long as the settings allow.
STACK = "a-long-stack1"
#: What sanitizing could make the same of two names, or take for something else.
PIECES = st.sampled_from(
    [
        ".fifo",
        "-",
        "_",
        ".",
        "/",
        "#",
        "\u2028",
        "ß",
        "ss",
        "\u0130",
        "é",
        "e\u0301",
        "A",
        "a",
        "\x00",
        " ",
    ]
)
names = st.text(max_size=300) | st.lists(PIECES, max_size=60).map("".join)
#: A name, and one that is nearly the same.
alike = st.tuples(names, names, PIECES).map(lambda n: (n[0] + n[1], n[0] + n[2] + n[1]))


@fuzz(600)
@given(names, st.sampled_from(QUEUE_TIERS))
@example("a.fifo", "flex")
@example("", "flex")
def test_any_name_has_a_valid_queue_and_key(name: str, tier: str) -> None:
    tried["names"] += 1
    queue, key = queue_name(STACK, name, tier), slug(name)  # type: ignore[arg-type]

    assert QUEUE.fullmatch(queue), queue
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,53}", key)
    assert re.fullmatch(r"[0-9a-f]{8}", model_hash(key))


@fuzz(600)
@given(st.tuples(names, names) | alike)
@example(("a.b", "a/b"))
@example(("Llama", "llama"))
def test_two_names_have_two_queues_of_which_neither_begins_with_the_other(
    two: tuple[str, str],
) -> None:
    tried["names"] += 1
    one, other = two
    queues = [{queue_name(STACK, name, tier) for tier in QUEUE_TIERS} for name in two]

    assert (one == other) is (slug(one) == slug(other))
    if one != other:
        assert not queues[0] & queues[1]
        assert not any(queue.startswith(f"{slug(one)}-") for queue in queues[1])


@fuzz(300)
@given(names, st.from_regex(NAME, fullmatch=True), st.from_regex(NAME, fullmatch=True))
def test_what_is_reserved_has_a_slug_that_no_other_name_has(
    name: str, model: str, tenant: str
) -> None:
    tried["names"] += 1
    apart = slug(dedicated_name(model, tenant))

    assert apart.startswith(DEDICATED_SLUG_PREFIX)
    assert slug(name).startswith(DEDICATED_SLUG_PREFIX) is ("#" in name)
    assert (base_name(name) == name) is ("#" not in name)
