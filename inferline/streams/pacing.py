"""
The pace of a stream: when the next of its chunks is due, by which its writer writes and its readers
look.
"""

from __future__ import annotations

from typing import Final

#: From a stream's first chunk to its second; from there on each takes twice as long as the one
#: before, up to the setting. So text moves at once, and a long answer costs few writes.
SECOND_CHUNK_SECONDS: Final = 0.1


def interval(seq: int, flush_seconds: float) -> float:
    """How long after the chunk ``seq`` of an attempt the next one is written, seconds."""
    return min(flush_seconds, SECOND_CHUNK_SECONDS * 2.0 ** min(seq, 30))
