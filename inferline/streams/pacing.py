"""
The pace of a stream: the times of its chunks, by which its writer writes and its readers read.
"""

from __future__ import annotations

from typing import Final

#: From a stream's first chunk to its second; after that each interval is twice the interval before,
#: up to the setting. So text moves at once, and a long answer costs few writes.
SECOND_CHUNK_SECONDS: Final = 0.1


def interval(seq: int, flush_seconds: float) -> float:
    """Return the seconds from an attempt's chunk ``seq`` to the next."""
    return min(flush_seconds, SECOND_CHUNK_SECONDS * 2.0 ** min(seq, 30))
