"""Offers requests to one vLLM server until it is stopped, in a process of its own.

Closed, with `clients`: each sends the next when it has its answer. Open, with `per_second`: they come, come what may.
Prompts differ, so that no prefix is cached.
"""

import argparse
import asyncio
import random
import string
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sandbox.part import Part

_RETRY_SECONDS = 0.5
_PATIENCE_SECONDS = 600
_CROWD_LIMIT = 300  # no more wait at once: each holds a connection


class Requests(Part):
    """`start` returns when the first request has been sent."""

    def __init__(
        self,
        folder: Path,
        url: str,
        model: str,
        *,
        prompt_tokens: int,
        output_tokens: int,
        clients: int = 0,
        every_seconds: float = 0.0,
        per_second: float = 0.0,
    ) -> None:
        """`every_seconds`: how long a client waits between an answer and its next request."""
        argv = [sys.executable, "-m", "sandbox.real_vllm.load", url, model]
        numbers = {
            "clients": clients,
            "prompt-tokens": prompt_tokens,
            "output-tokens": output_tokens,
            "every-seconds": every_seconds,
            "per-second": per_second,
        }
        super().__init__(
            "requests",
            [*argv, *(f"--{name}={value}" for name, value in numbers.items())],
            log=folder / "requests.log",
            ready=lambda: True,
            cwd=Path(__file__).parents[2],
            stop_seconds=5,
        )


def prompt(tokens: int, source: random.Random) -> str:
    """The sandbox's model has a token a letter."""
    return "".join(source.choices(string.ascii_lowercase + " ", k=tokens))


@dataclass(frozen=True)
class _Sender:
    session: aiohttp.ClientSession
    url: str
    model: str
    prompt_tokens: int
    output_tokens: int

    async def send(self, source: random.Random) -> None:
        body = {
            "model": self.model,
            "prompt": prompt(self.prompt_tokens, source),
            # Clients of one length end in one step and begin in another, and the engine is idle in between.
            "max_tokens": round(self.output_tokens * source.uniform(0.7, 1.3)),
            "ignore_eos": True,
            # Not streamed: on a small machine the API process would be busy with the pieces, and the engine idle.
        }
        try:
            async with self.session.post(f"{self.url}/v1/completions", json=body) as answer:
                await answer.read()
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(_RETRY_SECONDS)  # it is gone, or not there yet

    async def client(self, number: int, every_seconds: float) -> None:
        source = random.Random(number)
        while True:
            await self.send(source)
            await asyncio.sleep(every_seconds * source.uniform(0.5, 1.5))

    async def crowd(self, per_second: float) -> None:
        source = random.Random("crowd")
        under_way: set[asyncio.Task[None]] = set()
        while True:
            if len(under_way) < _CROWD_LIMIT:
                task = asyncio.create_task(self.send(source))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(source.expovariate(per_second))


async def _offer(options: argparse.Namespace) -> None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        sender = _Sender(session, options.url, options.model, options.prompt_tokens, options.output_tokens)
        crowd = [sender.crowd(options.per_second)] if options.per_second else []
        await asyncio.gather(*crowd, *(sender.client(n, options.every_seconds) for n in range(options.clients)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--output-tokens", type=int, required=True)
    parser.add_argument("--every-seconds", type=float, default=0.0)
    parser.add_argument("--per-second", type=float, default=0.0)
    with suppress(KeyboardInterrupt):
        asyncio.run(_offer(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
