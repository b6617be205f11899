"""Somebody is at it: from now on nobody is called for this incident."""

from collections.abc import Sequence
from dataclasses import replace

from bot.audit import AuditEntry
from bot.commands.context import Context, incident_meant
from bot.commands.words import parameters
from bot.report import Report, mention, plain

USAGE = "ack [incident]"
SUMMARY = "Take an incident on: nobody else is called for it."
READS_ONLY = False


def run(words: Sequence[str], context: Context) -> Report:
    word = parameters(words, "incident").get("incident")
    with context.store.write() as tx:
        incident = incident_meant(tx, word)
        name = plain(incident.target.service or incident.title)
        if incident.acked_by is not None:
            who = "you" if incident.acked_by == context.user else mention(incident.acked_by)
            return Report(f"{incident.id} ({name}) is acknowledged by {who} already.")
        tx.save_incident(replace(incident, acked_by=context.user, acked_at=context.now))
        tx.audit(AuditEntry(context.now, context.user, "incident.acknowledged", incident.id, {}))
        tx.show(incident.number)
    return Report(f"{incident.id} ({name}) is yours: nobody else is called for it.")
