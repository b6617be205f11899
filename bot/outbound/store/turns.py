"""Writers of one process go in the order in which they came.

A connection pool wakes the longest waiter, but whoever asks in that moment is quicker: on a busy bot one writer then
waits for all others, measured as the whole of a run of 16 threads. Here the turn is handed over, not up for grabs.
"""

import threading
from collections import deque
from typing import Self


class Turns:
    """A lock without overtaking. Not reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # around the two fields below, never held while anybody waits
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> Self:
        with self._lock:
            if not self._taken:
                self._taken = True
                return self
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
