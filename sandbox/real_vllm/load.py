"""Offers requests to one vLLM server until it is stopped, in a process of its own.

Closed: so many at once, each client sends the next when it has its answer. Prompts differ, so that no prefix is cached.
"""

import argparse
import asyncio
import random
import string
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

from sandbox.part import Part

_RETRY_SECONDS = 0.5
_PATIENCE_SECONDS = 600


class Requests(Part):
    """`start` returns when the first request has been sent."""

    def __init__(
        self,
        folder: Path,
        url: str,
        model: str,
        *,
        clients: int,
        prompt_tokens: int,
        output_tokens: int,
        every_seconds: float = 0.0,
    ) -> None:
        """`every_seconds`: how long a client waits between an answer and its next request."""
        argv = [sys.executable, "-m", "sandbox.real_vllm.load", url, model]
        numbers = {"clients": clients, "prompt-tokens": prompt_tokens, "output-tokens": output_tokens}
        argv += [f"--{name}={value}" for name, value in numbers.items()]
        super().__init__(
            "requests",
            [*argv, f"--every-seconds={every_seconds}"],
            log=folder / "requests.log",
            ready=lambda: True,
            cwd=Path(__file__).parents[2],
            stop_seconds=5,
        )


def prompt(tokens: int, source: random.Random) -> str:
    """The sandbox's model has a token a letter."""
    return "".join(source.choices(string.ascii_lowercase + " ", k=tokens))


async def _client(
    session: aiohttp.ClientSession, url: str, model: str, number: int, options: argparse.Namespace
) -> None:
    source = random.Random(number)
    while True:
        body = {
            "model": model,
            "prompt": prompt(options.prompt_tokens, source),
            "max_tokens": options.output_tokens,
            "ignore_eos": True,
            "stream": True,
        }
        try:
            async with session.post(f"{url}/v1/completions", json=body) as answer:
                async for _ in answer.content:
                    pass
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(_RETRY_SECONDS)  # it is gone, or not there yet
        await asyncio.sleep(options.every_seconds * source.uniform(0.5, 1.5))


async def _offer(options: argparse.Namespace) -> None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(
            *(_client(session, options.url, options.model, number, options) for number in range(options.clients))
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--output-tokens", type=int, required=True)
    parser.add_argument("--every-seconds", type=float, default=0.0)
    with suppress(KeyboardInterrupt):
        asyncio.run(_offer(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
