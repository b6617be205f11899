"""`python -m sandbox demo`: the real parts and a fault to watch, in a browser Slack."""

import argparse
import sys
from pathlib import Path

from sandbox.demo import show


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="start everything; stays until Ctrl-C")
    demo.add_argument("--script", action="store_true", help="play two whole stories without a person, then end")
    demo.add_argument("--pictures", type=Path, default=Path("var/demo"), help="where --script saves screenshots")
    options = parser.parse_args()
    return show(script=options.script, pictures=options.pictures)


if __name__ == "__main__":
    sys.exit(main())
