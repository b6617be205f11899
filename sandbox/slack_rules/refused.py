"""Slack says no: `ok: false` with an error code, in Slack's shape."""

from collections.abc import Sequence
from typing import Any


class RefusedError(Exception):
    def __init__(self, error: str, *, status: int = 200, retry_after_seconds: int | None = None, **more: Any) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.more = more

    @property
    def body(self) -> dict[str, Any]:
        return {"ok": False, "error": self.error, **self.more}


def with_messages(error: str, problems: Sequence[str]) -> RefusedError:
    """As Slack names what is wrong with blocks and views."""
    return RefusedError(
        error,
        errors=list(problems),
        response_metadata={"messages": [f"[ERROR] {problem}" for problem in problems]},
    )
