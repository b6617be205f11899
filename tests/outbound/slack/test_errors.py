"""Each way in which Slack can fail, from a local server that fails so."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bot.outbound.slack.chat import web_client
from bot.outbound.slack.errors import RETRY_AFTER_SECONDS, RefusedError, in_our_words
from bot.ports import GoneError, NoChannelError, SourceError, TooManyError, UnclearError
from sandbox.addresses import free_port


class Failing:
    """Answers every call with what the test says; `calls` counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self.status, self.body, self.headers = 200, json.dumps({"ok": True}), {}
        self.hang = threading.Event()
        self.hanging = self.cut = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.calls += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.hanging:
                    outer.hang.wait(20)
                if outer.cut or outer.hanging:
                    self.connection.close()
                    return
                self.send_response(outer.status)
                for name, value in {"Content-Type": "application/json", **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/"

    def says(self, error: str, status: int = 200, **more: object) -> None:
        self.status, self.body = status, json.dumps({"ok": False, "error": error, **more})

    def close(self) -> None:
        self.hang.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def failing() -> Iterator[Failing]:
    server = Failing()
    yield server
    server.close()


def posting(url: str, *, look_first: bool = True) -> Callable[[], None]:
    client = web_client("xoxb-1", api_url=url, timeout_seconds=1)

    def post() -> None:
        with in_our_words("chat.postMessage", url, what="to C1", look_first=look_first):
            client.chat_postMessage(channel="C1", text="x")

    return post


def test_429_tells_how_long_to_wait(failing: Failing):
    failing.says("ratelimited", 429)
    failing.headers = {"Retry-After": "7"}
    with pytest.raises(TooManyError) as caught:
        posting(failing.url)()
    assert caught.value.wait_seconds == 7
    assert failing.calls == 1, "whether and when to repeat is the announcer's to say"


def test_429_without_a_number_waits_some_seconds(failing: Failing):
    failing.says("ratelimited", 429)
    with pytest.raises(TooManyError) as caught:
        posting(failing.url)()
    assert caught.value.wait_seconds == RETRY_AFTER_SECONDS


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_5xx_to_a_post_is_unclear_and_is_not_repeated(failing: Failing, status: int):
    failing.status, failing.body = status, "<html>bad gateway</html>"
    with pytest.raises(UnclearError) as caught:
        posting(failing.url)()
    assert caught.value.retryable
    assert failing.calls == 1


@pytest.mark.parametrize("code", ["fatal_error", "internal_error", "request_timeout"])
def test_an_ok_answer_that_says_slack_fell_over_is_unclear(failing: Failing, code: str):
    failing.says(code)
    with pytest.raises(UnclearError, match=code):
        posting(failing.url)()


def test_no_answer_to_a_post_is_unclear(failing: Failing):
    failing.hanging = True
    with pytest.raises(UnclearError, match="did not answer"):
        posting(failing.url)()
    assert failing.calls == 1


def test_a_cut_connection_is_unclear(failing: Failing):
    failing.cut = True
    with pytest.raises(UnclearError, match="broke off"):
        posting(failing.url)()
    assert failing.calls == 1


def test_nobody_listening_means_that_nothing_was_sent():
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        posting(f"http://127.0.0.1:{free_port()}/api/")()
    assert not isinstance(caught.value, UnclearError) and caught.value.retryable


def test_what_is_harmless_to_repeat_is_never_unclear(failing: Failing):
    failing.status, failing.body = 503, ""
    with pytest.raises(SourceError) as caught:
        posting(failing.url, look_first=False)()
    assert not isinstance(caught.value, UnclearError) and caught.value.retryable


@pytest.mark.parametrize("code", ["not_in_channel", "channel_not_found", "is_archived"])
def test_a_channel_that_is_not_there_for_the_bot_is_an_error_of_its_own_with_what_to_do(failing: Failing, code: str):
    failing.says(code)
    with pytest.raises(NoChannelError) as caught:
        posting(failing.url)()
    assert caught.value.hint and not caught.value.retryable


def test_a_deleted_message_is_gone(failing: Failing):
    failing.says("message_not_found")
    with pytest.raises(GoneError):
        posting(failing.url)()


def test_a_missing_scope_names_the_scope(failing: Failing):
    failing.says("missing_scope", needed="chat:write")
    with pytest.raises(RefusedError, match="Add the scope chat:write") as caught:
        posting(failing.url)()
    assert not caught.value.retryable


def test_a_refusal_carries_slacks_own_details(failing: Failing):
    failing.says("invalid_blocks", response_metadata={"messages": ["[ERROR] must be less than 3001 characters"]})
    with pytest.raises(RefusedError, match="less than 3001") as caught:
        posting(failing.url)()
    assert caught.value.code == "invalid_blocks"
