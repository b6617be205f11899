"""From the process's first instruction to a bot that leads and takes alerts in."""

import compileall
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

import bot
from sandbox.bench.figures import median
from sandbox.bench.table import Row, Section
from sandbox.bot import Bot

GOAL_SECONDS = 3.0
STARTS = 5


def measure(folder: Path, fleet: Mapping[str, Any], environment: Mapping[str, str]) -> Section:
    compile_all()
    launch = _launcher(folder, fleet, environment)
    launch(0)  # reads the libraries' files into the machine's memory
    empty = [launch(n) for n in range(1, STARTS + 1)]
    again = [launch(1) for _ in range(STARTS)]
    return Section(
        "Start to ready",
        "A new process, until /readyz says that it leads; libraries compiled, as in the image, and in the file cache.",
        [_row("on an empty database", empty), _row("on the database of the last one", again)],
    )


def compile_all() -> None:
    """As the Dockerfile does. Where Python may not write its caches, each start would compile everything anew."""
    for place in (sysconfig.get_path("purelib"), Path(bot.__file__).parent):
        compileall.compile_dir(str(place), quiet=2, workers=0)


def _launcher(folder: Path, fleet: Mapping[str, Any], environment: Mapping[str, str]) -> Callable[[int], float]:
    folder.mkdir(parents=True, exist_ok=True)

    def launch(number: int) -> float:
        place = folder / f"start-{number}"
        process = Bot(place, fleet, environment)
        began = time.monotonic()
        process.launch()
        try:
            while not leads(process):
                if not process.alive or time.monotonic() - began > 60:
                    raise RuntimeError(f"the bot did not become ready\n{process.tail()}")
                time.sleep(0.01)
            return time.monotonic() - began
        finally:
            process.stop()

    return launch


def leads(process: Bot) -> bool:
    try:
        answer = requests.get(f"{process.url}/readyz", timeout=2)
    except requests.RequestException:
        return False
    return answer.status_code == 200 and answer.json()["checks"]["loop"]["detail"].startswith("leads")


def _row(what: str, seconds: list[float]) -> Row:
    worst = max(seconds)
    measured = f"{median(seconds):.2f} s median, {worst:.2f} s worst of {len(seconds)}"
    return Row(what, measured, f"< {GOAL_SECONDS:g} s", worst < GOAL_SECONDS)
