"""The half that a test holds; what it turns is tested with the dial and with the rules of Slack."""

import re
import threading

import pytest
import requests

from sandbox.dial import Dial
from sandbox.faults import Where


@pytest.fixture(scope="module")
def dial(tmp_path_factory):
    with Dial("nothing", "http://127.0.0.1:9", tmp_path_factory.mktemp("dial")) as made:
        yield made


def test_the_log_is_read_from_a_mark_on_and_by_equal_fields(dial: Dial):
    requests.get(f"{dial.url}/one", timeout=5)
    mark = dial.control.mark()
    requests.get(f"{dial.url}/two", timeout=5)
    assert [entry["path"] for entry in dial.control.log(mark)] == ["/two"]
    assert [entry["path"] for entry in dial.control.log(path="/one")] == ["/one"]


def test_waiting_for_the_log_returns_what_was_waited_for(dial: Dial):
    later = threading.Timer(0.2, lambda: requests.get(f"{dial.url}/late", timeout=5))
    later.start()
    assert dial.control.wait_log(path="/late")[0]["kind"] == "failed"
    later.join()


def test_waiting_in_vain_says_what_there_was(dial: Dial):
    requests.get(f"{dial.url}/lonely", timeout=5)
    with pytest.raises(TimeoutError, match="held 1 entries"):
        dial.control.wait_log(lambda found: len(found) == 2, path="/lonely", seconds=0.2)


def test_a_word_that_the_proxy_does_not_know_is_a_mistake_at_once(dial: Dial):
    with pytest.raises(re.error):
        dial.control.hold_next(Where.AFTER, method="(")
    with pytest.raises(ValueError, match="outage"):
        dial.control.outage("sulk")  # type: ignore[arg-type]
