"""From what somebody typed to a command's parameters. Values in order or as key=value; a wrong word gets the nearest
right one, since nobody reads a manual at 2 AM."""

import difflib
import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_NAMED = re.compile(r"^([A-Za-z_][A-Za-z0-9_.-]*)=(.*)$", re.DOTALL)
_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?Z?$")
_AGO = re.compile(r"^-?(\d+)(s|m|h|d)$")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Phones turn plain quotes into these.
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'"})


class UsageError(Exception):
    """What was typed cannot be done as it stands. The message says what would be right."""


@dataclass(frozen=True, slots=True)
class Words:
    ordered: tuple[str, ...]
    named: Mapping[str, str]


def split(text: str) -> list[str]:
    """As a shell would. Slack escapes `&<>` in what it hands over."""
    try:
        return shlex.split(html.unescape(text).translate(_QUOTES))
    except ValueError as error:
        raise UsageError(f"a quote is not closed in: {text}") from error


def sorted_out(words: Sequence[str]) -> Words:
    ordered: list[str] = []
    named: dict[str, str] = {}
    for word in words:
        if found := _NAMED.match(word):
            if found[1] in named:
                raise UsageError(f"{found[1]}= is there twice")
            named[found[1]] = found[2]
        else:
            ordered.append(word)
    return Words(tuple(ordered), named)


def parameters(words: Sequence[str], *names: str) -> dict[str, str]:
    """Each value by its name: words in order fill `names` from the left, key=value says which."""
    given = sorted_out(words)
    for name in given.named:
        if name not in names:
            raise UsageError(unknown("parameter", name, names))
    free = [name for name in names if name not in given.named]
    if len(given.ordered) > len(free):
        extra = " ".join(given.ordered[len(free) :])
        raise UsageError(f"there is one word too many: {extra}")
    return {**dict(zip(free, given.ordered, strict=False)), **given.named}


def unknown(what: str, word: str, among: Iterable[str]) -> str:
    known = sorted(among)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"there is no {what} {word!r}; did you mean {near[0]}?"
    listed = f"there are: {', '.join(known)}" if known else "there are none at all"
    return f"there is no {what} {word!r}; {listed}"


def incident_number(word: str) -> int:
    """142, inc-142, INC-142."""
    digits = word.lower().removeprefix("#").removeprefix("inc-")
    if not re.fullmatch(r"[0-9]{1,12}", digits):
        raise UsageError(f"{word!r} is no incident; they are called inc-142, and /vllm incidents lists them")
    return int(digits)


def span_of(word: str) -> timedelta:
    """30s, 1m, 2h, 1d."""
    found = _AGO.match(word)
    if found is None or not int(found[1]):
        raise UsageError(f"{word!r} is no span of time; write 30s, 1m, 2h or 1d")
    return timedelta(seconds=int(found[1]) * _UNIT_SECONDS[found[2]])


def time_of(word: str, now: datetime) -> datetime:
    """02:13 (UTC, the last one that was), 20m (ago), or an ISO time. Never in the future: nothing is measured there."""
    if found := _AGO.match(word):
        return now - timedelta(seconds=int(found[1]) * _UNIT_SECONDS[found[2]])
    try:
        if found := _CLOCK.match(word):
            at = now.astimezone(UTC).replace(
                hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0), microsecond=0
            )
            return at if at <= now else at - timedelta(days=1)
        at = datetime.fromisoformat(word)
    except ValueError as error:
        raise UsageError(f"{word!r} is no time; write 02:13 (UTC), 20m (ago) or 2026-11-24T02:13Z") from error
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if at > now:
        raise UsageError(f"{word!r} is in the future")
    return at
