import gzip
import time

import pytest
import urllib3

from bot.outbound.bounded import TooLong, TooSlow, gather
from tests.outbound.servers import Says, Trickle, server


def ask(answer, *, seconds: float = 5, limit: int = 1000) -> bytes:
    with server(answer) as http, urllib3.PoolManager() as pool:
        response = pool.request("GET", http.url, preload_content=False, timeout=2, retries=False)
        return gather(response, deadline=time.monotonic() + seconds, limit_bytes=limit)


def test_a_body_in_time_and_size_is_returned_whole():
    assert ask(lambda _: Says(b"x" * 1000)) == b"x" * 1000


def test_an_empty_body_is_empty():
    assert ask(lambda _: Says(b"")) == b""


def test_a_body_over_the_limit_is_given_up():
    with pytest.raises(TooLong, match="1,000"):
        ask(lambda _: Says(b"x" * 1001))


def test_the_limit_is_of_what_it_unpacks_to():
    with pytest.raises(TooLong):
        ask(lambda _: Says(gzip.compress(b"x" * 100_000), headers={"Content-Encoding": "gzip"}))


def test_a_body_that_trickles_past_the_deadline_is_given_up():
    start = time.monotonic()
    with pytest.raises(TooSlow):
        ask(lambda _: Trickle(), seconds=0.2)
    assert time.monotonic() - start < 2
