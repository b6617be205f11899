"""Who is called, when, and with which words. Pure.

A phone rings for a mention in a new message: never for an edit, rarely for a plain post. So the verdict must be in the
message that mentions. One push is meant for one incident; a second one only for what is worse than the first said.
Lack of an acknowledgement is `incidents.watch`'s to notice.
"""

import enum
from collections.abc import Iterator
from datetime import datetime, timedelta

from bot.announce.card import lock_screen
from bot.announce.seen import Seen
from bot.announce.verdict import Standing, confirmed_of, standing, worst_confirmed
from bot.announce.view import View
from bot.incidents.incident import IncidentState, ThreadMessage, Timing
from bot.report import Note, Report, Text, plain
from bot.runbook.schema import Severity


class FirstPost(enum.Enum):
    WAIT = "the verdict may come within the grace"
    QUIET = "post, and call nobody"
    CALL = "post, and call the on-call"


def first_post(view: View, timing: Timing, now: datetime) -> FirstPost:
    verdict = standing(view)
    if verdict.is_there:
        return FirstPost.CALL if _calls(view) else FirstPost.QUIET
    if view.incident.state is IncidentState.OPEN and now < grace_ends(view, timing):
        return FirstPost.WAIT
    return FirstPost.QUIET


def grace_ends(view: View, timing: Timing) -> datetime:
    return view.incident.opened_at + timedelta(seconds=timing.verdict_grace_seconds)


def limit_ends(view: View, timing: Timing) -> datetime:
    return view.incident.opened_at + timedelta(seconds=timing.verdict_limit_seconds)


def follow_ups(view: View, seen: Seen | None, timing: Timing, now: datetime) -> Iterator[ThreadMessage]:
    """What must ring after the card stands (`seen`): the verdict it was posted without, and what got worse."""
    if seen is None or not _calls(view):
        return
    verdict = standing(view)
    if not seen.called and (verdict.is_there or now >= limit_ends(view, timing)):
        # "verdict" is said once: an incident that began as a warning is called for when it turns critical.
        yield _push(view, "verdict", _words(view, verdict, timing))
    for rule, text in _got_worse(view):
        yield _push(view, f"worse:{rule}", text)


def _calls(view: View) -> bool:
    """Once somebody has acknowledged, which approving a change does too, nobody is woken. What was decided is no sign
    of it: a decline may be all that this person ever did about it, and a reopening takes the acknowledgment back."""
    incident = view.incident
    critical = incident.severity is Severity.CRITICAL and incident.state is IncidentState.OPEN
    return critical and incident.acked_by is None and view.oncall is not None


def _words(view: View, verdict: Standing, timing: Timing) -> str:
    if verdict.is_there:
        return lock_screen(view)
    waited = f"{timing.verdict_limit_seconds:g} s"
    return f"{lock_screen(view)} No verdict after {waited}: the diagnosis still waits for its sources."


def _got_worse(view: View) -> Iterator[tuple[str, str]]:
    """A confirmed cause more severe than any that was confirmed before it. The first one ever is the verdict's."""
    for position, round in enumerate(view.rounds):
        worst = worst_confirmed(view.rounds[:position])
        confirmed = confirmed_of(round)
        if worst is not None and confirmed and confirmed[0].severity.rank > worst.rank:
            finding = confirmed[0]
            text = f"{plain(view.name)} got worse: {plain(finding.title)}: {plain(finding.text)}"
            yield finding.rule, text


def _push(view: View, key: str, text: str) -> ThreadMessage:
    parts = (Text(f":rotating_light: {text}"), Note("The card above has the buttons."))
    return ThreadMessage(view.incident.number, key, Report(text, parts), mention=view.oncall)
