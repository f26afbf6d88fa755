"""A transport that goes nowhere, for protocols that are fed by hand."""

from __future__ import annotations

import asyncio


class Wire(asyncio.Transport):
    """Keeps what is written, each time with the moment of the running loop."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[float, bytes]] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append((asyncio.get_running_loop().time(), bytes(data)))

    def close(self) -> None:
        self.closed = True
