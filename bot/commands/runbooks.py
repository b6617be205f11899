"""Which runbooks there are, and what one of them asks and concludes."""

from collections.abc import Sequence

from bot.commands.context import Context
from bot.commands.words import UsageError, parameters, unknown
from bot.report import Code, Note, Part, Report, Text, plain
from bot.runbook.schema import Runbook

USAGE = "runbooks [runbook]"
SUMMARY = "The runbooks, or what one of them asks and concludes."
READS_ONLY = True


def run(words: Sequence[str], context: Context) -> Report:
    name = parameters(words, "runbook").get("runbook")
    if name is None:
        return _all(context)
    runbook = context.runbooks.get(name)
    if runbook is None:
        raise UsageError(unknown("runbook", name, context.runbooks))
    return _one(name, runbook)


def _all(context: Context) -> Report:
    text = f"{len(context.runbooks)} runbook{'' if len(context.runbooks) == 1 else 's'}"
    parts: list[Part] = [
        Text(f"`{plain(name)}` *{plain(book.title)}* ({plain(book.owner)})\nAlerts: {_alerts(book)}")
        for name, book in sorted(context.runbooks.items())
    ]
    if context.broken:
        files = len({mistake.path for mistake in context.broken})
        text += f"; {files} not used"
        parts += [Text(":warning: *Not used, with these mistakes:*"), Code("\n".join(map(str, context.broken)))]
    return Report(text, (Text(f"*{text}*"), *parts))


def _one(name: str, book: Runbook) -> Report:
    text = f"{plain(book.title)}: {plain(book.symptoms)}"
    asks = "\n".join(f"• {plain(step.ask or step.id)} (`{plain(step.probe)}`)" for step in book.steps)
    parts: list[Part] = [
        Text(f"*{plain(book.title)}* (`{plain(name)}`)\n{plain(book.symptoms)}"),
        Text(f"*Alerts:* {_alerts(book)}"),
        Text(f"*Asks*\n{asks}"),
    ]
    for rule in book.rules:
        does = ", ".join(f"`{plain(s.action)}`" for s in rule.suggest)
        then = f"\nSuggests {does}" if does else ""
        parts += [Text(f"*{plain(rule.title)}* ({rule.severity.value}), when{then}"), Code("\n".join(rule.when))]
    parts.append(Note(f"Owner: {plain(book.owner)}"))
    return Report(text, tuple(parts))


def _alerts(book: Runbook) -> str:
    found = []
    for match in book.match:
        wanted = match.get("alertname", ())
        found += [wanted] if isinstance(wanted, str) else list(wanted)
        if "alertname" not in match:
            found.append(" ".join(f"{k}={v}" for k, v in match.items()))
    return ", ".join(plain(f) for f in found)
