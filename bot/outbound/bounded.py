"""Reads an answer within a deadline and a size. The HTTP libraries bound neither: their read timeout starts anew with
every byte, and a body may be as long as the other side likes."""

import time
from collections.abc import Iterable

CHUNK_BYTES = 64 * 1024


class TooSlow(Exception):
    """The deadline passed while the body was still coming."""


class TooLong(Exception):
    """The body is longer than allowed."""


def gather(chunks: Iterable[bytes], *, deadline: float, limit_bytes: int) -> bytes:
    """The whole body. `deadline` is of time.monotonic(); it is looked at between chunks, so a chunk that never comes is
    up to the library's read timeout."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            raise TooLong(f"more than {limit_bytes:,} bytes came")
        if time.monotonic() > deadline:
            raise TooSlow
    return bytes(body)
