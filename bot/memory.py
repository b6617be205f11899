"""Tells the C library and Python's collector what the bot is like: many threads, much that stays, large answers that
go.

glibc keeps up to eight pools a core for a program with many threads, and after one large answer takes all large ones
from them, where a small neighbour keeps each alive. Measured in a storm of 10,000 alerts: 15 of 280 MiB. Where there
is no glibc (musl), there is nothing to tell it.

The collector would look through all that the imports made, and that stays, whenever a webhook brought much that is
new: 180,000 objects, 0.2 s a look.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 128 * 1024  # glibc's own values at the start; naming them keeps them from growing
_POOLS = 2


def be_frugal() -> bool:
    """Before the first thread. True if the C library took it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    chosen = ((_M_ARENA_MAX, _POOLS), (_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_TRIM_THRESHOLD, _LARGE_BYTES))
    return all([mallopt(parameter, value) == 1 for parameter, value in chosen])


@contextmanager
def without_collector() -> Iterator[None]:
    """Around imports. They leave no garbage, and what they made is not looked at later either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
