"""Who did what, when, with which result; and does the chain of entries still hold?"""

import json
from collections.abc import Sequence

from bot.audit import ChainedEntry, broken_link
from bot.commands.context import Context
from bot.commands.words import incident_number, parameters
from bot.report import Note, Part, Report, Text, mention, moment, plain

USAGE = "audit [incident]"
SUMMARY = "Who did what, and whether the chain of entries holds."
READS_ONLY = True

ENTRIES = 20
DETAIL_CHARACTERS = 160


def run(words: Sequence[str], context: Context) -> Report:
    word = parameters(words, "incident").get("incident")
    subject = f"inc-{incident_number(word)}" if word is not None else None
    with context.store.read() as tx:
        entries = tx.audited(subject, ENTRIES)
        broken = broken_link(tx.audit_chain())
        newest = tx.audited(None, 1)
    of = f" of {subject}" if subject else ""
    text = f"The last {len(entries)} audit entries{of}" if entries else f"There are no audit entries{of}"
    parts: list[Part] = [Text(f"*{text}*")]
    if entries:
        parts.append(Text("\n".join(_line(link) for link in reversed(entries))))
    if broken is not None:
        warning = f":rotating_light: The chain is broken: {plain(broken)}. Somebody changed the database by hand."
        return Report(f"The audit chain is broken: {plain(broken)}", (Text(warning), *parts))
    if newest:
        head = f"head `{newest[0].hash[:16]}`"
        parts.append(Note(f"The chain holds from its first entry to number {newest[0].sequence}; {head}."))
    return Report(text, tuple(parts))


def _line(link: ChainedEntry) -> str:
    entry = link.entry
    detail = json.dumps(dict(entry.detail), ensure_ascii=False, default=str) if entry.detail else ""
    detail = detail if len(detail) <= DETAIL_CHARACTERS else detail[: DETAIL_CHARACTERS - 1] + "…"
    who = mention(entry.actor) if entry.actor.isalnum() and entry.actor.isupper() else plain(entry.actor)
    what = f"*{plain(entry.action)}* {plain(entry.subject)} {plain(detail)}"
    return f"{link.sequence} {moment(entry.at, 'date')} {who} {what}"
