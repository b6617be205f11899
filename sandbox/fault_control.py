"""What a test holds of a proxy: its latency, its outages, its failpoints, and the log of what passed."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests

from sandbox.faults import Outage, Where

Entry = dict[str, Any]


class Hold:
    """A failpoint: one exchange stops there until it is released."""

    def __init__(self, url: str) -> None:
        self._url = url

    def wait_reached(self, seconds: float = 20) -> dict[str, str]:
        """Block until an exchange stands there, and return what it is. Raises TimeoutError."""
        answer = requests.get(self._url, params={"seconds": str(seconds)}, timeout=seconds + 5).json()
        if not answer["reached"]:
            raise TimeoutError(f"no exchange reached the failpoint within {seconds:.0f} s")
        at: dict[str, str] = answer["at"]
        return at

    @property
    def reached(self) -> bool:
        return bool(requests.get(self._url, params={"seconds": "0"}, timeout=5).json()["reached"])

    def release(self) -> None:
        """Let it go on. Also disarms a failpoint that was never reached."""
        requests.post(f"{self._url}/release", json={"cut": False}, timeout=5).raise_for_status()

    def cut(self) -> None:
        """End it without an answer."""
        requests.post(f"{self._url}/release", json={"cut": True}, timeout=5).raise_for_status()


class FaultControl:
    def __init__(self, url: str) -> None:
        self.url = url

    def latency(self, seconds: float) -> None:
        """Added to each exchange: half on the way in, half on the way back."""
        self._put("latency", {"seconds": seconds})

    def outage(self, kind: Outage, *, error_status: int = 503) -> None:
        """Until the next call; `Outage.NONE` ends it."""
        self._put("outage", {"outage": kind, "error_status": error_status})

    @contextmanager
    def down(self, kind: Outage, *, error_status: int = 503) -> Iterator[None]:
        self.outage(kind, error_status=error_status)
        try:
            yield
        finally:
            self.outage(Outage.NONE)

    def hold_next(self, where: Where, **match: str) -> Hold:
        """Stop the next exchange whose attributes contain these regular expressions (`method=`, `path=` …)."""
        for pattern in match.values():
            re.compile(pattern)
        made = requests.post(f"{self.url}/_control/holds", json={"where": where, "match": match}, timeout=5)
        made.raise_for_status()
        return Hold(f"{self.url}/_control/holds/{made.json()['id']}")

    def log(self, since: int = 0, **equal: Any) -> list[Entry]:
        """Entries after number `since` whose fields equal these."""
        return [entry for entry in self._log(since, 0) if _fits(entry, equal)]

    def mark(self) -> int:
        """The number of the last entry, for `since`."""
        return len(self._log(0, 0))

    def wait_log(
        self, condition: Callable[[list[Entry]], bool] = bool, *, since: int = 0, seconds: float = 10, **equal: Any
    ) -> list[Entry]:
        """Wait until the fitting entries satisfy the condition (by default: there is one). Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        read = since
        fitting: list[Entry] = []
        while True:
            for entry in self._log(read, min(1.0, max(0.0, deadline - time.monotonic()))):
                read = entry["n"]
                if _fits(entry, equal):
                    fitting.append(entry)
            if condition(fitting):
                return fitting
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:.0f} s the log held {len(fitting)} entries with {equal}: {fitting}")

    def _log(self, since: int, seconds: float) -> list[Entry]:
        answer = requests.get(
            f"{self.url}/_control/log", params={"since": str(since), "seconds": str(seconds)}, timeout=seconds + 10
        )
        entries: list[Entry] = answer.json()["entries"]
        return entries

    def _put(self, what: str, value: dict[str, Any]) -> None:
        answer = requests.put(f"{self.url}/_control/{what}", json=value, timeout=10)
        if answer.status_code != 200:
            raise ValueError(f"{self.url}/_control/{what} refused {value}: {answer.status_code} {answer.text}")


def _fits(entry: Entry, equal: dict[str, Any]) -> bool:
    return all(entry.get(name) == value for name, value in equal.items())
