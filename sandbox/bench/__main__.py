"""`make bench`: how fast the bot is, on the real parts. The exit code is the number of goals that it misses."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sandbox.bench import intake, message, mixed, rounds, start, stories, storm, xid
from sandbox.bench.figures import machine, wait_calm
from sandbox.bench.table import Section, markdown, missed, text
from sandbox.world import Ground, World, chat_70b, fleet_yaml

CALM_SECONDS = 60.0
Measure = Callable[[Ground, Path], Section]


def _start(ground: Ground, folder: Path) -> Section:
    town = chat_70b("bench-start")
    world = World(ground, folder / "world", [town])
    return start.measure(folder, fleet_yaml([town], ground.workspace), world.bot_environment)


MEASURES: Mapping[str, Measure] = {
    "stories": stories.measure,
    "message": message.measure,
    "xid": xid.measure,
    "round": rounds.measure,
    "mixed": mixed.measure,
    "intake": lambda _ground, folder: intake.section(folder),
    "storm": storm.measure,
    "start": _start,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"only these of {', '.join(MEASURES)}")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - set(MEASURES):
        parser.error(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    print(f"Measuring on {machine()}; all of it usually takes 15 minutes.", flush=True)
    sections = _measured(chosen.only or list(MEASURES))
    count = missed(sections)
    end = "All goals met." if count == 0 else f"{count} goal{'' if count == 1 else 's'} missed."
    print(f"\n{end}")
    if chosen.markdown is not None:
        day = datetime.now(UTC).strftime("%d %B %Y").lstrip("0")
        head = f"# How fast it is\n\nOne run of `make bench` on {day}: {machine()}. {end}\n\n"
        chosen.markdown.write_text(head + "\n\n".join(markdown(section) for section in sections) + "\n")
    return count


def _measured(names: list[str]) -> list[Section]:
    sections = []
    with tempfile.TemporaryDirectory(prefix="vllm-oncall-bench-") as folder:
        start.compile_all()
        with Ground(Path(folder) / "ground") as ground:
            for name in names:
                idle = wait_calm(CALM_SECONDS)
                if idle < 0.7:
                    print(f"\nOther programs leave {idle:.0%} of the machine: what follows is slower than it is.")
                began = time.monotonic()
                sections.append(MEASURES[name](ground, Path(folder) / name))
                print(f"{text(sections[-1])}\n  ({name}: {time.monotonic() - began:.0f} s)", flush=True)
    return sections


if __name__ == "__main__":
    sys.exit(main())
