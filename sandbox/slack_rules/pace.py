"""How often an app may call: one message a second and channel with short bursts, and a tier for each method. Pure.

A bucket of tokens for each, filled at the documented rate. How large a burst Slack tolerates is not documented:
for posting it is a parameter, for a method it is its own minute.
"""

import math
from dataclasses import dataclass, field

from sandbox.slack_rules.methods import METHODS

POSTS_PER_SECOND = 1.0


@dataclass
class Bucket:
    size: float
    per_second: float
    tokens: float
    filled_at: float

    def take(self, now: float) -> float:
        """Take one token; 0, or the seconds until there is one (then none is taken)."""
        self.tokens = min(self.size, self.tokens + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.per_second


@dataclass
class Pace:
    post_burst: int = 3
    _posts: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    _calls: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def post(self, app_id: str, channel: str, now: float) -> int | None:
        """None if the app may post there now, else the whole seconds for Retry-After."""
        bucket = self._posts.setdefault(
            (app_id, channel), Bucket(self.post_burst, POSTS_PER_SECOND, self.post_burst, now)
        )
        return _seconds(bucket.take(now))

    def call(self, app_id: str, method: str, now: float) -> int | None:
        known = METHODS.get(method)
        if known is None:
            return None
        bucket = self._calls.setdefault(
            (app_id, method), Bucket(known.per_minute, known.per_minute / 60, known.per_minute, now)
        )
        return _seconds(bucket.take(now))

    def forget(self) -> None:
        self._posts.clear()
        self._calls.clear()


def _seconds(wait: float) -> int | None:
    return max(1, math.ceil(wait)) if wait else None
