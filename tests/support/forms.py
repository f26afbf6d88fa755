"""Forms, as clients send them and as no client would."""

from __future__ import annotations

BOUNDARY = "0b0e8a3c"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
#: Neither UTF-8 nor JSON, and with what looks like a boundary.
SOUND = b"RIFF\x24\x00\x00\x00WAVE\x00\xff\xfe\r\n--0b0e8\r\n\r\n"


def part(disposition: str, value: bytes, *headers: str) -> bytes:
    """Return one part of a form."""
    lines = "".join(f"{line}\r\n" for line in (f"Content-Disposition: {disposition}", *headers))
    return f"--{BOUNDARY}\r\n{lines}\r\n".encode() + value + b"\r\n"


def field(name: str, value: str) -> bytes:
    """Return a part that is a text."""
    return part(f'form-data; name="{name}"', value.encode())


def file(name: str = "file", value: bytes = SOUND, filename: str = "a.wav") -> bytes:
    """Return a part that is a file."""
    disposition = f'form-data; name="{name}"; filename="{filename}"'
    return part(disposition, value, "Content-Type: audio/wav")


def form(*parts: bytes) -> bytes:
    """Return a form of these parts."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
