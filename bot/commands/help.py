"""What can be asked of the bot."""

from collections.abc import Sequence

from bot.commands import dispatch
from bot.commands.context import Context
from bot.commands.words import UsageError, parameters, unknown
from bot.report import Note, Report, Text, plain

USAGE = "help [command]"
SUMMARY = "What can be asked."
READS_ONLY = True


def run(words: Sequence[str], context: Context) -> Report:
    name = parameters(words, "command").get("command")
    if name is not None:
        if name not in dispatch.names():
            raise UsageError(unknown("command", name, dispatch.names()))
        return _one(name, context)
    shown = [n for n in dispatch.names() if context.in_slack or dispatch.find(n).READS_ONLY]
    lines = [f"`{_prefix(context)}{dispatch.find(n).USAGE}` {plain(dispatch.find(n).SUMMARY)}" for n in shown]
    where = "What only reads also runs in a terminal: `vllm-oncall status`." if context.in_slack else ""
    text = "What can be asked:"
    return Report(text, (Text("\n".join((text, *lines))), *((Note(where),) if where else ())))


def _one(name: str, context: Context) -> Report:
    command = dispatch.find(name)
    text = f"`{_prefix(context)}{command.USAGE}`"
    return Report(text, (Text(f"{text}\n{plain(command.SUMMARY)}"),))


def _prefix(context: Context) -> str:
    return "/vllm " if context.in_slack else "vllm-oncall "
