"""Who stands behind Slack's ids, remembered for a while: names of users and groups, members of groups.

A name is needed where somebody is to be named without ringing their phone, so it is worth a call once in a while.
Membership decides who may approve: it is never older than a minute, and an error is no membership.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from slack_sdk import WebClient

from bot.outbound.slack.errors import in_our_words
from bot.ports import SourceError

NAME_SECONDS = 24 * 3600.0
# A name that could not be had (no scope, no such user) is not asked for with every message.
NO_NAME_SECONDS = 600.0
MEMBERS_SECONDS = 60.0

log = logging.getLogger(__name__)
V = TypeVar("V")


class Remembered(Generic[V]):
    """Answers, each with the time until which it holds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, V]] = {}

    def get(self, key: str) -> V | None:
        with self._lock:
            until, value = self._kept.get(key, (0.0, None))
        return value if self._clock() < until else None

    def keep(self, key: str, value: V, seconds: float) -> V:
        with self._lock:
            self._kept[key] = (self._clock() + seconds, value)
        return value


class People:
    def __init__(self, client: WebClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._names: Remembered[str] = Remembered(clock)
        self._members: Remembered[frozenset[str]] = Remembered(clock)

    def name(self, who: str) -> str:
        """`@alice`; the id where the name cannot be had. Never raises: a message must not fail for a name."""
        known = self._names.get(who)
        if known is not None:
            return known
        try:
            return self._names.keep(who, self._asked(who), NAME_SECONDS)
        except SourceError as error:
            log.warning("the name of %s is not known, the id stands in for it: %s", who, error)
            return self._names.keep(who, f"@{who}", NO_NAME_SECONDS)

    def meet(self, who: Iterable[str]) -> None:
        """Ask for names ahead of time, so that no alert's first message waits for one."""
        for one in who:
            self.name(one)

    def members(self, group: str) -> frozenset[str]:
        known = self._members.get(group)
        if known is not None:
            return known
        with in_our_words("usergroups.users.list", self._client.base_url, what=group):
            answer = self._client.usergroups_users_list(usergroup=group)
        return self._members.keep(group, frozenset(answer["users"]), MEMBERS_SECONDS)

    def _asked(self, who: str) -> str:
        if who.startswith("S"):
            with in_our_words("usergroups.list", self._client.base_url):
                groups: list[dict[str, Any]] = self._client.usergroups_list()["usergroups"]
            for group in groups:
                self._names.keep(group["id"], f"@{group['handle']}", NAME_SECONDS)
            return self._names.get(who) or f"@{who}"
        with in_our_words("users.info", self._client.base_url, what=who):
            user: dict[str, Any] = self._client.users_info(user=who)["user"]
        profile = user.get("profile") or {}
        return "@" + str(profile.get("display_name") or user.get("name") or profile.get("real_name") or who)
