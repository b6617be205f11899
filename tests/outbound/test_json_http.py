import time

import pytest

from bot.outbound.json_http import JsonHttp, session
from bot.ports import SourceError
from sandbox.addresses import free_port
from sandbox.controlplane.control_plane import ControlPlane
from tests.outbound.servers import Answering, Hangup, Says, Silence, Trickle, server


def client(url: str, *, headers: dict[str, str] | None = None) -> JsonHttp:
    return JsonHttp("Oracle", url, "ORACLE__URL", 0.5, session(threads=4), headers or {})


def failure(answer: Answering, method: str = "GET") -> SourceError:
    with server(answer) as oracle, pytest.raises(SourceError) as raised:
        client(oracle.url).json(method, "/api")
    assert len(oracle.asked) == 1  # whoever heard a question is not asked again
    assert raised.value.source == "Oracle"
    return raised.value


def test_a_question_carries_its_query_form_and_headers():
    with server(lambda _: Says({"answer": 42})) as oracle:
        http = client(oracle.url + "/", headers={"Authorization": "Bearer sesame"})
        assert http.json("POST", "/api", query=[("a", "1")], form={"q": 'x{y="z"}'}) == {"answer": 42}
    (asked,) = oracle.asked
    assert (asked.method, asked.path, asked.query, asked.form) == ("POST", "/api", {"a": "1"}, {"q": 'x{y="z"}'})
    assert asked.headers["Authorization"] == "Bearer sesame"


def test_connections_are_kept():
    with server(lambda _: Says({})) as oracle:
        http = client(oracle.url)
        for _ in range(5):
            http.json("GET", "/api")
    assert len({asked.connection for asked in oracle.asked}) == 1


@pytest.mark.parametrize("answer", [Silence(), Trickle()])
def test_what_does_not_come_in_time_is_given_up(answer):
    start = time.monotonic()
    error = failure(lambda _: answer)
    assert "did not answer within 0.5 s (http://127.0.0.1" in error.why and error.retryable
    assert time.monotonic() - start < 2


def test_nobody_listening_names_the_address_and_the_setting():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceError) as raised:
        client(url).json("GET", "/api")
    assert url in raised.value.why and "Connection refused" in raised.value.why
    assert "ORACLE__URL" in raised.value.hint and raised.value.retryable


def test_a_name_that_does_not_resolve_is_said_to_be_one():
    with pytest.raises(SourceError, match="cannot be reached") as raised:
        client("http://no-such-host.invalid").json("GET", "/api")
    assert raised.value.retryable


def test_a_broken_connection_is_worth_another_try():
    assert failure(lambda _: Hangup()).retryable


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (404, False), (429, True), (500, True), (503, True)])
def test_a_refusal_is_told_with_its_words(status: int, retryable: bool):
    error = failure(lambda _: Says("the words", status))
    assert f"/api answered {status}: the words" in error.why
    assert error.retryable is retryable


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_right_is_hinted_at(status: int):
    assert "token" in failure(lambda _: Says("no", status)).hint


def test_something_else_than_json_is_shown():
    error = failure(lambda _: Says("<html>Welcome to nginx</html>"))
    assert "Welcome to nginx" in error.why and "another server" in error.hint


def test_a_redirect_is_not_followed_but_told():
    error = failure(lambda _: Says(b"", 301, {"Location": "https://elsewhere.example/api"}), "POST")
    assert "redirects to https://elsewhere.example/api" in error.why and "ORACLE__URL" in error.hint


def test_an_untrusted_certificate_is_told_apart(control_plane: ControlPlane):
    with pytest.raises(SourceError, match="no trusted TLS connection"):
        client(control_plane.url).json("GET", "/version")
