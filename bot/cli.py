"""The command line: run the bot, check runbooks, and every `/vllm` command that only reads, in a terminal."""

import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from bot import logs
from bot.app import App, ConfigurationError, connect, prometheus_of, terminal
from bot.commands import dispatch
from bot.commands.words import UsageError
from bot.incidents.cases import run_all
from bot.memory import be_frugal
from bot.outbound.terminal import render
from bot.ports import SourceError
from bot.runbook.checking import as_report, check, library
from bot.runbook.loading import our_folder
from bot.runbook.proof import Proof, told
from bot.settings import CheckSettings, PrometheusSettings, Settings

cli = typer.Typer(
    name="vllm-oncall",
    help="The on-call bot for vLLM on Kubernetes. Those `/vllm` commands that only read work here, too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runbook_tools = typer.Typer(help="For whoever writes a runbook.", no_args_is_help=True)
cli.add_typer(runbook_tools, name="runbook")
T = TypeVar("T")


@cli.command()
def run() -> None:
    """Run the bot, until SIGTERM."""
    be_frugal()
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


@cli.command()
def agent() -> None:
    """Run the GPU node agent (NVML and the kernel's log, read-only), until SIGTERM."""
    # A program of its own: what it loads (gRPC, NVML) the bot does not need, and the other way round.
    os.execv(sys.executable, [sys.executable, "-m", "bot.agent"])


@cli.command("check")
def check_runbooks(
    folders: Annotated[list[Path] | None, typer.Argument(help="Runbook folders; ours alone if none is given.")] = None,
    cases: Annotated[
        Path | None, typer.Option(help="The folder that must hold a case file for each; all are run.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="Show it every query; VLLM_ONCALL_PROMETHEUS__URL if that is set.")
    ] = None,
) -> None:
    """Check runbooks: every mistake with its line and the nearest right word. Exit code 1 if there is one, 2 if
    something that was asked for could not be looked at."""
    places = folders or [our_folder()]
    if missing := [str(place) for place in (*places, *([cases] if cases else [])) if not place.is_dir()]:
        _exit(f"no such folder: {', '.join(missing)}")
    proof = _proof(prometheus)
    mistakes = list(check(places, cases=cases, promql=proof))
    found = library(places)
    good = found.runbooks
    broken = {mistake.path for mistake in mistakes if mistake.path.stem not in good}
    count, failed = run_all(good, cases) if cases is not None else (None, ())
    _print(render(as_report([*mistakes, *failed], len(good) + len(broken), (*found.replaced, *told(proof, count)))))
    if mistakes or failed:
        raise typer.Exit(1)
    raise typer.Exit(2 if proof is not None and proof.stopped is not None else 0)


def _proof(url: str | None) -> Proof | None:
    """With the bot's own token and tenant, where the bot's settings are at hand."""
    known = _read(CheckSettings).prometheus
    if url is not None:  # another one than the bot's is not given the bot's token
        known = PrometheusSettings(url=url) if known is None or known.url != url else known
    return None if known is None else Proof(prometheus_of(known).refusal)


@runbook_tools.command("backtest")
def backtest(
    runbook: str,
    service: str,
    since: Annotated[str, typer.Option("--from", help="02:00 (UTC), 3h (ago), or 2026-11-24T02:00Z")],
    until: Annotated[str, typer.Option("--to", help="As --from; now if it is not given.")] = "0s",
    every: Annotated[str, typer.Option(help="Between two looks: 30s, 1m, 5m")] = "1m",
) -> None:
    """What a runbook would have said over a stretch of Prometheus' history."""
    _answer(["backtest", runbook, service, f"from={since}", f"to={until}", f"every={every}"])


def _reading(name: str) -> Callable[[typer.Context], None]:
    """A `/vllm` command in the terminal: its words are its own to understand."""

    def command(context: typer.Context) -> None:
        _answer([name, *context.args])

    return command


def _answer(words: Sequence[str]) -> None:
    outside = _or_exit(lambda: connect(_settings()))
    try:
        report = dispatch.answer(words, terminal(outside, getpass.getuser()))
    except (UsageError, SourceError) as error:
        _exit(str(error))
    _print(render(report))


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
    return _read(Settings)


def _read(kind: Callable[[], T]) -> T:
    try:
        return kind()
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
