"""`make faults`: every row of the fault table on real parts. Ends with 1 if a verdict is not the expected one."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from sandbox.controlplane.bot_account import install as install_account
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.fault_table import doctor, real_scene
from sandbox.fault_table.ground import Ground
from sandbox.fault_table.outcome import Outcome
from sandbox.fault_table.rows import FOLDER, Row, RowFile, load
from sandbox.fault_table.scene import Scene
from sandbox.fault_table.table import Table
from sandbox.real_vllm import install as real_vllm

SIDE_BY_SIDE = 6  # rows wait for scrapes and windows most of the time


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--real", choices=("yes", "no", "only"), default="yes", help="the rows on a real vLLM")
    parser.add_argument("--no-doctor", action="store_true", help="do not ask vllm-doctor")
    parser.add_argument("--rows", type=Path, default=FOLDER, metavar="FOLDER", help="other rows than our own")
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE, metavar="N")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the parts are stopped
    begun = time.monotonic()
    files = load(options.rows)
    rows = [row for file in files for row in file.rows if options.only is None or options.only in row.name]
    light = [row for row in rows if row.server is None and options.real != "only"]
    heavy = [row for row in rows if row.server is not None and options.real != "no"]
    if heavy:
        real_vllm.install(_note)
    if not options.no_doctor:
        _note(f"vllm-doctor: {doctor.program()}")
    table = Table(lambda line: print(line, flush=True))
    table.head()
    try:
        with tempfile.TemporaryDirectory(prefix="vllm-oncall-faults-") as scratch:
            for outcome in _played(Path(scratch), files, light, heavy, options):
                table.add(outcome)
    finally:
        table.foot()  # of what was played, whatever came then
    print(f"{time.monotonic() - begun:.0f} s in all.")
    return 0 if all(outcome.right for outcome in table.outcomes) else 1


def _played(
    folder: Path, files: Sequence[RowFile], light: Sequence[Row], heavy: Sequence[Row], options: argparse.Namespace
) -> Iterator[Outcome]:
    ask = not options.no_doctor
    with ControlPlane(folder / "kubernetes") as plane:
        token = install_account(plane, namespaces=())
        if light:
            with Ground(folder / "light", plane, token) as ground:
                yield from play_light(ground, light, options.side_by_side, ask_doctor=ask)
        if heavy:
            # Without the fleet, which would want to be every pod that runs vLLM.
            with Ground(folder / "heavy", plane, token, simulate=False) as ground:
                for file in files:
                    yield from real_scene.play(ground, file.servers, heavy, ask_doctor=ask)


def play_light(ground: Ground, rows: Sequence[Row], side_by_side: int, *, ask_doctor: bool) -> Iterator[Outcome]:
    with ThreadPoolExecutor(side_by_side, thread_name_prefix="row") as pool:
        for done in as_completed([pool.submit(Scene(ground, row, ask_doctor=ask_doctor).play) for row in rows]):
            yield done.result()


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
