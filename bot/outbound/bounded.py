"""Reads an answer within a deadline and a size. The HTTP libraries bound neither: their read timeout starts anew with
every byte, and a body may be as long as the other side likes."""

import io
import time

import urllib3

_CHUNK_BYTES = 64 * 1024


class TooSlow(Exception):
    """The deadline passed while the body was still coming."""


class TooLong(Exception):
    """The body is longer than allowed."""


def gather(response: urllib3.BaseHTTPResponse, *, deadline: float, limit_bytes: int) -> bytes:
    """The whole body, decompressed. `deadline` is of time.monotonic(); a byte that never comes is up to the response's
    own read timeout. Raises urllib3's HTTPError if the connection breaks."""
    body = io.BytesIO()  # which hands its buffer over in the end, instead of copying it
    length = 0
    # Not `read` or `stream`: they wait until a chunk is full.
    while chunk := response.read1(_CHUNK_BYTES, decode_content=True):
        length += body.write(chunk)
        if length > limit_bytes:
            raise TooLong(f"more than {limit_bytes:,} bytes came")
        if time.monotonic() > deadline:
            raise TooSlow
    return body.getvalue()
