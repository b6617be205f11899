import requests

from sandbox.replay import Replay
from tests.fixtures_metrics import IDLE, PRESSURE


def test_the_page_is_served_byte_for_byte():
    with Replay(IDLE) as vllm:
        assert requests.get(f"http://{vllm.target}/metrics", timeout=5).content == IDLE.read_bytes()
        vllm.show(PRESSURE)
        assert requests.get(f"http://{vllm.target}/metrics", timeout=5).content == PRESSURE.read_bytes()


def test_shown_nothing_it_is_a_failed_scrape():
    with Replay(None) as vllm:
        assert requests.get(f"http://{vllm.target}/metrics", timeout=5).status_code == 503


def test_any_other_path_is_not_found():
    with Replay(IDLE) as vllm:
        assert requests.get(f"http://{vllm.target}/health", timeout=5).status_code == 404
