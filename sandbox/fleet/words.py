"""Made-up language: how many tokens a text has, and what a replica answers. The same prompt gets the same answer."""

import re
import zlib
from collections.abc import Iterator

VOCABULARY = tuple(
    re.findall(
        r"\w+",
        "the queue of a server grows when more arrives than leaves and shrinks when load falls or help comes so watch"
        " it with care keep some room plan for peaks test what you trust and write down what you learn at night",
    )
)
_TOKEN = re.compile(r"\w+|[^\w\s]")


def tokens_of(text: str) -> list[int]:
    """One token a word or sign; the number depends on nothing but the word."""
    return [zlib.crc32(token.encode()) % 128_000 for token in _TOKEN.findall(text)]


def answer(prompt: str) -> Iterator[str]:
    """Words without end, as many as the caller wants."""
    state = zlib.crc32(prompt.encode())
    while True:
        state = (state * 1_103_515_245 + 12_345) % 2**31
        yield " " + VOCABULARY[state // 2**16 % len(VOCABULARY)]
