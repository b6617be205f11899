"""From a row to its deed: a command by its file's name, a click, a submitted dialog. Whoever asked gets the answer,
also when it is that nothing was done.

A row is done when its answer is written; after a crash in between it is acted on again, which the deeds allow.
"""

import importlib
import logging
import pkgutil
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, Protocol, cast

from bot import commands
from bot.commands.context import Context, Later
from bot.commands.request import Request, RequestKind, Store
from bot.commands.words import UsageError, split, unknown
from bot.ports import SourceError
from bot.report import Note, Report, Text, plain

log = logging.getLogger(__name__)

LIMIT = 100
WORKERS = 8
# A click that is a command with the button's id behind it.
CLICKS = {"ack": "ack", "resolve": "resolve", "rerun": "diagnose"}
_PROPOSAL = re.compile(r"^inc-(\d+)-p\d+$")
Work = Callable[[], Report]


class Command(Protocol):
    """A module of this package, seen as a value."""

    USAGE: str
    SUMMARY: str
    READS_ONLY: bool

    def run(self, words: Sequence[str], context: Context) -> Report: ...


@cache
def names() -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return tuple(sorted(n for n in found if hasattr(importlib.import_module(f"{commands.__name__}.{n}"), "USAGE")))


def find(name: str) -> Command:
    """Raises UsageError with the nearest name."""
    if name not in names():
        raise UsageError(unknown("command", name, names()))
    return cast(Command, importlib.import_module(f"{commands.__name__}.{name}"))


def answer(words: Sequence[str], context: Context) -> Report:
    """Run a command. Raises UsageError, SourceError. No words at all ask for help."""
    name, rest = (words[0], words[1:]) if words else ("help", ())
    command = find(name)
    if not context.in_slack and not command.READS_ONLY:
        raise UsageError(f"{name} changes something, so it is typed in Slack, where it is known who asks: /vllm {name}")
    try:
        return command.run(rest, context)
    except UsageError as error:
        prefix = "/vllm" if context.in_slack else "vllm-oncall"
        raise UsageError(f"{error}\nUsage: {prefix} {command.USAGE}") from error


@dataclass(frozen=True, slots=True)
class Deeds:
    """What other floors do at a click or a submission; each answers in a sentence for whoever pressed."""

    decline: Callable[[str, str, datetime], str]  # proposal, user, now
    approve: Callable[[str, str, Mapping[str, Any], datetime], str]  # proposal, user, inputs, now


class Dispatch:
    """`step` is looped by the leader. One person's requests follow one another; those of many run side by side."""

    def __init__(
        self,
        store: Store,
        context: Callable[[str, str], Context],  # user, channel
        deeds: Deeds,
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        workers: int = WORKERS,
    ) -> None:
        self._store = store
        self._context = context
        self._deeds = deeds
        self._clock = clock
        self._wake = wake
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="request")
        self._lock = threading.Lock()
        self._busy: set[str] = set()  # users
        self._done: set[int] = set()  # acted on since `step` began to read: its snapshot may not know

    def step(self, now: datetime) -> bool:
        with self._lock:
            self._done.clear()
        with self._store.read() as tx:
            waiting = tx.requests(LIMIT)
        begun = False
        for request in waiting:
            with self._lock:
                if request.user in self._busy or request.id in self._done:
                    continue
                self._busy.add(request.user)
            self._pool.submit(self._act, request)
            begun = True
        return begun

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _act(self, request: Request) -> None:
        follows: list[Work] = []
        try:
            report = self._answer(request, lambda: self._deed(request, follows))
            self._whisper(request, report, done=True)
            with self._lock:
                self._done.add(request.id)
            for work in follows:  # only now, so that its answer comes after the note that announces it
                self._pool.submit(self._follow, request, work)
        except Exception:
            # The top of a job. The row stays, so it is acted on again; a pause keeps that from spinning.
            log.exception("request %s could not be acted on", request.id)
            threading.Event().wait(1)
        finally:
            with self._lock:
                self._busy.discard(request.user)
            self._wake()

    def _answer(self, request: Request, work: Work) -> Report:
        try:
            return work()
        except UsageError as error:
            return _not_done(request, str(error))
        except SourceError as error:
            return _not_done(request, str(error))
        except Exception as error:  # around a deed
            log.exception("request %s failed: %s", request.id, dict(request.payload))
            return _not_done(request, f"a mistake of the bot's, which its log has: {type(error).__name__}: {error}")

    def _deed(self, request: Request, follows: list[Work]) -> Report:
        payload = request.payload
        context = replace(self._context(request.user, request.channel), later=_into(follows))
        match request.kind:
            case RequestKind.COMMAND:
                return answer(split(str(payload.get("text", ""))), context)
            case RequestKind.CLICK:
                action, value = str(payload.get("action")), str(payload.get("value"))
                if action in CLICKS:
                    return find(CLICKS[action]).run([value], context)
                if action == "decline":
                    return Report(self._deeds.decline(value, request.user, context.now))
                raise UsageError(f"this button ({action}) means nothing any more; the card has the current ones")
            case RequestKind.SUBMISSION:
                if payload.get("callback") != "review":
                    raise UsageError(f"nothing is known of this dialog ({payload.get('callback')})")
                inputs = payload.get("inputs") or {}
                return Report(self._deeds.approve(str(payload.get("token")), request.user, inputs, context.now))

    def _follow(self, request: Request, work: Work) -> None:
        try:
            self._whisper(request, self._answer(request, work))
        except Exception:  # the top of a job
            log.exception("the answer to request %s could not be written down", request.id)
        self._wake()

    def _whisper(self, request: Request, report: Report, *, done: bool = False) -> None:
        with self._store.write() as tx:
            tx.whisper(_where(tx.card, request), request.user, report, self._clock())
            if done:
                tx.acted_on(request.id)


def _into(follows: list[Work]) -> Later:
    """An answer that takes seconds: what is said at once, and the rest when it is there."""

    def later(note: Report, work: Work) -> Report:
        follows.append(work)
        return note

    return later


class _HasChannel(Protocol):
    @property
    def channel(self) -> str: ...


def _where(card: Callable[[int], _HasChannel | None], request: Request) -> str:
    """A dialog knows no channel: its answer goes where the incident's card is."""
    found = _PROPOSAL.match(str(request.payload.get("token", "")))
    there = card(int(found[1])) if found and request.kind is RequestKind.SUBMISSION else None
    return there.channel if there is not None else request.channel


def _not_done(request: Request, why: str) -> Report:
    typed = f"`/vllm {plain(request.payload['text'])}`: " if request.kind is RequestKind.COMMAND else ""
    first, _, rest = why.partition("\n")
    text = f"{typed}{plain(first)}"
    return Report(text, (Text(text), *((Note(plain(rest)),) if rest else ())))
