"""`python -m sandbox.slack_rules SETTINGS.json`: the rules as a process of their own. Started by `part.SlackRules`."""

import argparse
import asyncio
from pathlib import Path

import aiohttp

from sandbox.slack_rules.server import SlackServer
from sandbox.slack_rules.settings import RulesSettings, settings_json


async def serve(settings: RulesSettings) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        await SlackServer(settings, session).serve()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.slack_rules", description=__doc__)
    parser.add_argument("settings", type=Path)
    path: Path = parser.parse_args().settings
    asyncio.run(serve(settings_json.validate_json(path.read_bytes())))


if __name__ == "__main__":
    main()
