"""`Turns`: first come, first served, and one at a time."""

import threading
import time

from bot.outbound.store.turns import Turns


def test_who_came_first_goes_first():
    turns, order = Turns(), []
    with turns:
        threads = []
        for n in range(8):
            thread = threading.Thread(target=lambda n=n: _take(turns, order, n))
            thread.start()
            _until(lambda n=n: len(turns._waiting) == n + 1)
            threads.append(thread)
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))


def test_who_gives_the_turn_back_and_asks_again_goes_last():
    turns, order = Turns(), []
    with turns:
        thread = threading.Thread(target=_take, args=(turns, order, "waited"))
        thread.start()
        _until(lambda: len(turns._waiting) == 1)
    _take(turns, order, "came again")
    thread.join(10)
    assert order == ["waited", "came again"]


def test_one_at_a_time():
    turns, inside, most = Turns(), [0], [0]

    def work() -> None:
        for _ in range(200):
            with turns:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (inside[0], most[0]) == (0, 1)


def test_an_error_gives_the_turn_back():
    turns = Turns()
    try:
        with turns:
            raise ValueError
    except ValueError:
        pass
    with turns:
        pass


def _take(turns: Turns, order: list, name: object) -> None:
    with turns:
        order.append(name)


def _until(question) -> None:
    deadline = time.monotonic() + 10
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.001)
