"""The command line: run the bot, check runbooks, and every `/vllm` command that only reads, in a terminal."""

import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from bot import logs
from bot.app import App, ConfigurationError, connect, terminal
from bot.commands import dispatch
from bot.commands.words import UsageError
from bot.outbound.terminal import render
from bot.ports import SourceError
from bot.runbook.checking import as_report, check, library
from bot.runbook.loading import our_folder
from bot.settings import Settings

cli = typer.Typer(
    name="vllm-oncall",
    help="The on-call bot for vLLM on Kubernetes. Those `/vllm` commands that only read work here, too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
T = TypeVar("T")


@cli.command()
def run() -> None:
    """Run the bot, until SIGTERM."""
    settings = _settings()
    logs.configure(settings.log_level)
    bot = _or_exit(lambda: App(connect(settings)))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    bot.start()
    stopped.wait()
    bot.stop()
    logging.shutdown()
    # A workflow that waits holds a thread, for which the interpreter would wait. It goes on where it was next time.
    os._exit(0)


@cli.command("check")
def check_runbooks(
    folders: Annotated[list[Path] | None, typer.Argument(help="Runbook folders; ours alone if none is given.")] = None,
    cases: Annotated[Path | None, typer.Option(help="The folder that must hold a case file for each.")] = None,
) -> None:
    """Check runbooks: every mistake with its line and the nearest right word. Exit code 1 if there is one."""
    places = folders or [our_folder()]
    if missing := [str(place) for place in places if not place.is_dir()]:
        _exit(f"no such folder: {', '.join(missing)}")
    mistakes = check(places, cases=cases)
    good = library(places).runbooks
    broken = {mistake.path for mistake in mistakes if mistake.path.stem not in good}
    _print(render(as_report(mistakes, len(good) + len(broken))))
    raise typer.Exit(1 if mistakes else 0)


def _reading(name: str) -> Callable[[typer.Context], None]:
    """A `/vllm` command in the terminal: its words are its own to understand."""

    def command(context: typer.Context) -> None:
        outside = _or_exit(lambda: connect(_settings()))
        try:
            report = dispatch.answer([name, *context.args], terminal(outside, getpass.getuser()))
        except (UsageError, SourceError) as error:
            _exit(str(error))
        _print(render(report))

    return command


for _name in dispatch.names():
    if dispatch.find(_name).READS_ONLY and _name != "help":  # typer has its own
        cli.command(
            _name,
            help=dispatch.find(_name).SUMMARY,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            options_metavar="",
            epilog=f"vllm-oncall {dispatch.find(_name).USAGE}",
        )(_reading(_name))


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"  VLLM_ONCALL_{'__'.join(str(part).upper() for part in e['loc'])}: {e['msg']}" for e in error.errors()
        ]
        _exit("\n".join(["these settings are missing or wrong (the README lists them all):", *wrong]))
        raise AssertionError from error


def _or_exit(work: Callable[[], T]) -> T:
    try:
        return work()
    except (ConfigurationError, SourceError, OSError, ValueError) as error:
        _exit(str(error))
        raise AssertionError from error


def _exit(why: str) -> None:
    print(f"vllm-oncall: {why}", file=sys.stderr)
    raise typer.Exit(2)


def _print(text: str) -> None:
    sys.stdout.write(text)


def main() -> None:
    cli(prog_name="vllm-oncall")


if __name__ == "__main__":
    main()
