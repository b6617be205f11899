import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sandbox.real_vllm.load import Requests, prompt


@pytest.fixture
def server():
    """Notes what is posted, and answers nothing worth reading."""
    received = []
    enough = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if len(received) >= 20:
                enough.set()

        def log_message(self, *arguments):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    listening.received, listening.enough = received, enough
    yield listening
    listening.shutdown()
    listening.server_close()


def test_clients_send_the_next_request_when_they_have_their_answer(server, tmp_path):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with Requests(tmp_path, url, "chat", clients=3, prompt_tokens=50, output_tokens=100):
        assert server.enough.wait(20)
    path, body = server.received[0]
    assert path == "/v1/completions"
    assert (body["model"], len(body["prompt"])) == ("chat", 50)
    lengths = {body["max_tokens"] for _, body in server.received}
    assert len(lengths) > 1 and all(70 <= length <= 130 for length in lengths)
    assert len({body["prompt"] for _, body in server.received}) == len(server.received), (
        "else the cache would serve them"
    )


def test_a_crowd_does_not_wait_for_answers(server, tmp_path):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with Requests(tmp_path, url, "chat", per_second=200, prompt_tokens=10, output_tokens=10):
        assert server.enough.wait(20)


def test_a_prompt_has_a_letter_for_each_token():
    assert len(prompt(123, random.Random(1))) == 123
