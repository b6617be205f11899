"""The one message of an incident: state, service, verdict; evidence; what could not be checked; who owns it; at most
three buttons. Pure, and without "ago": it changes only when the store does."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from bot.announce import changes
from bot.announce.amounts import amount, reading
from bot.announce.verdict import (
    Ending,
    Outcome,
    Standing,
    blind_spots_by_reason,
    came_back_after,
    ending,
    ruled_out_of,
    standing,
)
from bot.announce.view import View
from bot.incidents.alert import AlertStatus
from bot.incidents.incident import STORM_TITLE, IncidentState, Round, SignalReading
from bot.remediation.proposal import Applied, Helped, Proposal, ProposalState
from bot.report import Button, Buttons, Fields, Menu, Note, Part, Report, Style, Text, duration, mention, moment, plain
from bot.runbook.schema import Severity
from bot.vllm.redaction import redact

EVIDENCE = 4
CHANGES = 3
MANUALS = 2
BLIND = 3
SERVICES = 6
CHOICES = 5
# A post this much later than the alert is a fault of its own, which the reader should know of.
LATE_SECONDS = 30

_ICONS = {
    Severity.CRITICAL: ":red_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.INFO: ":large_blue_circle:",
}


def render(view: View) -> Report:
    now = standing(view)
    resolved = view.incident.state is IncidentState.RESOLVED
    parts: list[Part] = [Text(f"{_headline(view, now)}\n{_verdict(now, resolved)}")]
    if resolved:
        parts.append(Text(_how_it_ended(view)))
    else:
        parts += _evidence(now)
    parts += [Text(text) for text in _unfinished(view)]
    parts += [Text(line) for line in _change_lines(view)]
    if not resolved:
        parts += [Text(text) for text in _manuals(view)]
    parts += [Note(text) for text in _small_print(view, now)]
    if buttons := _buttons(view):
        parts.append(Buttons(buttons))
    return Report(lock_screen(view), tuple(parts))


def lock_screen(view: View) -> str:
    """Service, what is wrong, how bad; the verdict; the next step. No times: a lock screen has its own."""
    now = standing(view)
    name = plain(view.name)
    if view.incident.state is IncidentState.RESOLVED:
        return f"{name}: {_resolved_words(view)}"
    said = f"{name}: {_what(view)}."
    if now.is_there:
        said += f" {now.title}: {_sentence(now.text)}"
    change = next((p for p in _under_way(view)), None)
    if change is not None:
        return f"{said} Running: {changes.short(change)}."
    offered = _offered(view, now)
    return f"{said} Suggested: {changes.short(offered[0])}." if offered else said


# ---------------------------------------------------------------------------------------------- the top lines


def _headline(view: View, now: Standing) -> str:
    incident = view.incident
    name = f"*{plain(view.name)}*"
    if incident.state is IncidentState.RESOLVED:
        icon = ":warning:" if ending(view) is Ending.STILL_BAD else ":large_green_circle:"
        return f"{icon} {name} · {_resolved_words(view)}{_period(view)}"
    again = f", fired {incident.flaps + 1} times" if incident.flaps else ""
    return f"{_ICONS[incident.severity]} {name} · {_what(view)} since {moment(incident.began_at)}{again}"


def _what(view: View) -> str:
    """The signal against its threshold; without one, the alert's own words."""
    incident = view.incident
    if incident.title == STORM_TITLE:
        return f"alerts about {len(incident.target.also)} services: {_services(view)}"
    signal = view.rounds[-1].signal if view.rounds else None
    if signal is not None:
        return signal_words(view, signal)
    title = plain(incident.title)
    names = [plain(n) for n in incident.alert_names if plain(n) not in title]
    if title == plain(view.name):
        return ", ".join(names) or "alert"
    return f"{title} ({', '.join(names)})" if names and len(title) < 60 else title


def signal_words(view: View, signal: SignalReading) -> str:
    words = f"{plain(signal.name)} {reading(signal)}"
    if signal.threshold is None:
        return words
    declared = view.runbook.signal.threshold if view.runbook is not None and view.runbook.signal is not None else None
    word = "SLO" if isinstance(declared, str) and declared.startswith("$slo") else "limit"
    return f"{words} ({word} {amount(signal.threshold, signal.unit)})"


def _verdict(now: Standing, resolved: bool) -> str:
    was = "It was: " if resolved and now.outcome is Outcome.CONFIRMED else ""
    icon = ":mag: " if now.outcome is Outcome.WAITING else ""
    return f"{icon}{was}*{now.title}*: {_sentence(now.text)}"


def _evidence(now: Standing) -> Iterator[Part]:
    if now.outcome is Outcome.CONFIRMED and now.top is not None and now.top.because:
        yield Fields(tuple(plain(line) for line in now.top.because[:EVIDENCE]))
    if now.others:
        yield Text(f"Also: {', '.join(plain(f.title) for f in now.others)}")
    unclear = now.round is not None and now.outcome is Outcome.INCONCLUSIVE
    if unclear and now.round is not None and (ruled_out := ruled_out_of(now.round)):
        yield Text(f"Ruled out: {', '.join(plain(f.title) for f in ruled_out)}")


# ---------------------------------------------------------------------------------------------- how it ended


def _resolved_words(view: View) -> str:
    took = _took(view)
    match ending(view):
        case Ending.STILL_BAD:
            return f"alerts resolved after {took}, but it does not look over"
        case Ending.AGREED if _fix(view) is not None:
            return f"fixed after {took}"
        case _:
            return f"resolved after {took}"


def _took(view: View) -> str:
    end = view.incident.resolved_at or view.incident.opened_at
    return duration(max(end - view.incident.began_at, timedelta()))


def _period(view: View) -> str:
    end = view.incident.resolved_at
    return "" if end is None else f" ({moment(view.incident.began_at)} to {moment(end)})"


def _how_it_ended(view: View) -> str:
    last = view.rounds[-1] if view.rounds else None
    signal = signal_words(view, last.signal) if last is not None and last.signal is not None else ""
    fix = _fix(view)
    lines = []
    if fix is not None:
        by = changes.approved_by(view.approvals.get(fix.id, ()), fix)
        lines.append(f"What fixed it: {changes.what_changes(fix)} ({by}).")
    elif view.incident.resolution:
        lines.append(f"{_capital(view.incident.resolution)}; no change of ours is known to have fixed it.")
    match ending(view):
        case Ending.CHECKING:
            lines.append("Checking whether it is really over…")
        case Ending.AGREED:
            lines.append(f"Checked: {signal}.")
        case Ending.STILL_BAD:
            lines.append(f"But {signal or 'a cause is still confirmed'}. Alerts that resolve are no proof: look again.")
        case Ending.CANNOT_TELL:
            lines.append(f"Whether it is really over could not be checked{f': {signal}' if signal else ''}.")
        case Ending.UNCHECKED:
            pass
    return "\n".join(lines) or "All alerts resolved."


def _fix(view: View) -> Proposal | None:
    """The last change that helped, was in place when the trouble ended, and after which it did not come back."""
    helped = [p for p in view.proposals if p.state is ProposalState.ENDED and p.helped is Helped.YES]
    stayed = [p for p in helped if not _taken_back(p, view) and not came_back_after(p, view)]
    return stayed[-1] if stayed else None


def _taken_back(proposal: Proposal, view: View) -> bool:
    """An undo that broke off may have: then it is not known to be in place."""
    end = view.incident.resolved_at
    begun = [p for p in view.proposals if p.undoes == proposal.id and p.applied is not Applied.NO]
    return any(p.started_at is not None and (end is None or p.started_at <= end) for p in begun)


# ---------------------------------------------------------------------------------------------- changes, and by hand


def _change_lines(view: View) -> list[str]:
    def told(*, alone: bool) -> list[tuple[Proposal, str]]:
        lines = ((p, changes.line(p, view.approvals.get(p.id, ()), alone=alone)) for p in view.proposals)
        return [(p, line) for p, line in lines if line is not None]

    fix = _fix(view) if view.incident.state is IncidentState.RESOLVED else None
    lines = [line for p, line in told(alone=len(told(alone=True)) == 1) if p is not fix]
    left_out = len(lines) - CHANGES
    if left_out > 0:
        lines = [f"{left_out} earlier change{'s' if left_out > 1 else ''}: see the thread", *lines[-CHANGES:]]
    return lines


def _manuals(view: View) -> list[str]:
    lines = []
    for manual in view.manuals[:MANUALS]:
        command = f"\n`{plain(redact(manual.command))}`" if manual.command else ""
        lines.append(f":wrench: By hand: {_sentence(plain(manual.text))}{command}\nNo button: {plain(manual.reason)}")
    if len(view.manuals) > MANUALS:
        lines.append(f"{len(view.manuals) - MANUALS} more by hand: see the thread")
    return lines


def _unfinished(view: View) -> Iterator[str]:
    """An alert that says too little of what it is about, and what would mend that."""
    target = view.incident.target
    if target.service is None and view.incident.title != STORM_TITLE and not target.also:
        reason = plain(target.unresolved) if target.unresolved else "its labels name none of fleet.yaml's services"
        yield (
            f":grey_question: *No service*: {_sentence(reason)} Declare the service in fleet.yaml, or give the alert a "
            "label that leads to it (`service`, `model_name`, or `namespace` with `pod`)."
        )
    elif target.unresolved:
        yield f":grey_question: {_sentence(_capital(plain(target.unresolved)))}"


# ---------------------------------------------------------------------------------------------- small print


def _small_print(view: View, now: Standing) -> Iterator[str]:
    last = view.rounds[-1] if view.rounds else None
    matters = view.incident.state is IncidentState.OPEN or ending(view) is Ending.CANNOT_TELL
    if matters and last is not None and (blind := blind_spots_by_reason(last)):
        shown = [
            f"{', '.join(plain(what.rstrip('?')) for what in whats)} ({plain(why)})" for whats, why in blind[:BLIND]
        ]
        more = f"; {len(blind) - BLIND} more in the thread" if len(blind) > BLIND else ""
        yield f":see_no_evil: Not checked: {'; '.join(shown)}{more}"
    open_cause = now.outcome is Outcome.CONFIRMED and view.incident.state is IncidentState.OPEN
    if open_cause and now.top is not None and now.top.note:
        # Its first sentence; the thread has all of it.
        yield f":bulb: {plain(_sentence(now.top.note.split('. ')[0]))}"
    if view.incident.state is IncidentState.OPEN and any(alert.is_moment for alert in view.alerts):
        yield (
            ":pushpin: The GPU agent tells what happened, never that it is over: somebody has to mark this as resolved."
        )
    late = _late(view)
    if late is not None:
        yield f":snail: Slack got this {late} after the alert."
    if view.card is not None and view.card.channel != view.incident.channel:
        yield f":mailbox: Slack refused this in {plain(view.incident.channel)}: is the bot a member there?"
    yield " · ".join(_owner_line(view, last))


def _owner_line(view: View, round: Round | None) -> Iterator[str]:
    incident = view.incident
    if incident.acked_by is not None:
        at = f" {moment(incident.acked_at)}" if incident.acked_at else ""
        yield f"Acknowledged by {mention(incident.acked_by)}{at}"
    elif view.oncall is not None:
        yield f"On call {mention(view.oncall)}"
    else:
        yield "Nobody is declared on call (fleet.yaml)"
    firing = sum(alert.status is AlertStatus.FIRING for alert in view.alerts)
    if view.alerts:
        alerts = f"{len(view.alerts)} alert{'' if len(view.alerts) == 1 else 's'}"
        yield (
            alerts if firing == len(view.alerts) else f"{firing} of {alerts} firing" if firing else f"{alerts} resolved"
        )
    if incident.target.also and incident.title != STORM_TITLE:
        yield f"{'also hits' if incident.target.service else 'hits'} {_services(view)}"
    if round is not None and round.started_at is not None and round.ended_at is not None:
        yield f"{plain(round.runbook)}, round {round.number}, {duration(round.ended_at - round.started_at)}"
    yield incident.id


def _late(view: View) -> str | None:
    if view.card is None or view.card.ts is None:
        return None
    late = timedelta(seconds=float(view.card.ts) - view.incident.opened_at.timestamp())
    return duration(late) if late.total_seconds() > LATE_SECONDS else None


def _services(view: View) -> str:
    also = view.incident.target.also
    more = f" and {len(also) - SERVICES} more" if len(also) > SERVICES else ""
    return ", ".join(plain(s) for s in also[:SERVICES]) + more


# ---------------------------------------------------------------------------------------------- buttons


def _buttons(view: View) -> tuple[Button | Menu, ...]:
    incident = view.incident
    if incident.state is IncidentState.RESOLVED:
        return ()
    offered = _offered(view, standing(view))
    running = [p for p in _under_way(view) if p.state is ProposalState.RUNNING]
    buttons: list[Button | Menu] = []
    choices: list[Button] = []
    if running:
        buttons.append(Button(f"Abort: {changes.short(running[0])}…", "abort", running[0].id, Style.DANGER))
    elif offered:
        buttons.append(Button(f"Review: {changes.short(offered[0])}…", "review", offered[0].id, Style.PRIMARY))
        choices += [Button(f"Review: {changes.short(p)}…", "review", p.id) for p in offered[1:3]]
        choices.append(Button(f"Decline: {changes.short(offered[0])}", "decline", offered[0].id))
    if incident.acked_by is None:
        buttons.append(Button("Ack", "ack", incident.id))
    undo = next((p for p in reversed(view.proposals) if changes.may_be_undone(p) and not _undone(p, view)), None)
    if undo is not None and not running:
        choices.append(Button(f"Undo: {changes.short(undo)}…", "undo", undo.id))
    if incident.runbook is not None:
        again = Button("Diagnose again", "rerun", incident.id)
        # Where nothing else can be offered, looking again is the next step.
        unclear = standing(view).outcome in (Outcome.INCONCLUSIVE, Outcome.NOT_RUN, Outcome.NOTHING_FOUND)
        (buttons if unclear and not running and not offered else choices).append(again)
    choices.append(Button("Mark as resolved", "resolve", incident.id))
    return (*buttons, Menu(tuple(choices[-CHOICES:])))


def _offered(view: View, now: Standing) -> list[Proposal]:
    """Pending ones, that of the verdict first."""
    pending = [p for p in view.proposals if p.state is ProposalState.PENDING]
    top = now.top.rule if now.top is not None else None
    return sorted(pending, key=lambda p: (p.aborts is None, p.undoes is None and p.rule != top, p.number))


def _under_way(view: View) -> Sequence[Proposal]:
    return [p for p in view.proposals if p.state in (ProposalState.APPROVED, ProposalState.RUNNING)]


def _undone(proposal: Proposal, view: View) -> bool:
    return any(
        p.undoes == proposal.id and p.state is ProposalState.ENDED and p.applied is not Applied.NO
        for p in view.proposals
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
