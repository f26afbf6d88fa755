"""The prefix cache of a scripted engine: what of a prompt need not be computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

#: As in vLLM: what does not fill a block is not shared.
BLOCK_TOKENS: Final = 16


class PrefixCache:
    """Blocks of tokens, each known by all the text up to its end; the oldest go first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def cached(self, text: str) -> int:
        """Return how many tokens at the beginning are there; never all: the last is computed."""
        blocks = 0
        for key in _keys(text):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            blocks += 1
        return min(blocks * BLOCK_TOKENS, len(text) - 1)

    def keep(self, text: str, tokens_max: int) -> None:
        """Have the blocks of a text, as the most recent of all that fit into ``tokens_max``."""
        for key in _keys(text):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) * BLOCK_TOKENS > max(0, tokens_max):
            self._blocks.popitem(last=False)


def _keys(text: str) -> Iterator[int]:
    key = 0
    for at in range(BLOCK_TOKENS, len(text) + 1, BLOCK_TOKENS):
        key = hash((key, text[at - BLOCK_TOKENS : at]))
        yield key
