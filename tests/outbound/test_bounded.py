import time

import pytest

from bot.outbound.bounded import TooLong, TooSlow, gather


def test_a_body_in_time_and_size_is_returned_whole():
    assert gather([b"ab", b"cd"], deadline=time.monotonic() + 5, limit_bytes=4) == b"abcd"


def test_a_body_over_the_limit_is_not_read_to_its_end():
    def endless():
        while True:
            yield b"x" * 100

    with pytest.raises(TooLong, match="1,000"):
        gather(endless(), deadline=time.monotonic() + 5, limit_bytes=1000)


def test_a_body_that_trickles_past_the_deadline_is_given_up():
    def trickle():
        while True:
            time.sleep(0.01)
            yield b"x"

    start = time.monotonic()
    with pytest.raises(TooSlow):
        gather(trickle(), deadline=start + 0.1, limit_bytes=1000)
    assert time.monotonic() - start < 1
