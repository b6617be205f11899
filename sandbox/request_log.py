"""What passed through a proxy, one JSON line each: tests count effects from it. In a file, and over the control API."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


class RequestLog:
    """Entries are numbered from 1; a time-out of `wait` simply returns what there is."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)
        self._entries: list[dict[str, Any]] = []
        self._grown = asyncio.Condition()

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """None fields are left out."""
        entry = {"n": len(self._entries) + 1, "at": round(time.time(), 6), "kind": kind}
        entry |= {name: value for name, value in fields.items() if value is not None}
        self._entries.append(entry)
        self._file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        asyncio.get_running_loop().create_task(self._tell())
        return entry

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    def since(self, n: int) -> list[dict[str, Any]]:
        return self._entries[n:]

    async def wait(self, n: int, seconds: float) -> list[dict[str, Any]]:
        """Entries after number `n`, as soon as there is one, or after `seconds` none."""
        async with self._grown:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait_for(lambda: len(self._entries) > n), seconds)
        return self.since(n)
