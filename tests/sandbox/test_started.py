"""What every part of the sandbox does as a context manager."""

from typing import Self

import pytest

from sandbox.started import Started


class Thing(Started):
    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.said: list[str] = []

    def start(self) -> Self:
        self.said.append("started")
        if self.fails:
            raise OSError("halfway")
        return self

    def stop(self) -> None:
        self.said.append("stopped")


def test_it_is_started_on_the_way_in_and_stopped_on_the_way_out():
    with Thing() as thing:
        assert thing.said == ["started"]
    assert thing.said == ["started", "stopped"]


def test_it_is_stopped_when_the_body_fails():
    thing = Thing()
    with pytest.raises(LookupError), thing:
        raise LookupError
    assert thing.said == ["started", "stopped"]


def test_what_came_up_before_a_failed_start_is_stopped():
    thing = Thing(fails=True)
    with pytest.raises(OSError, match="halfway"), thing:
        pass
    assert thing.said == ["started", "stopped"]
