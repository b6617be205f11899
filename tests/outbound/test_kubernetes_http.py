import threading
import time
from pathlib import Path

import pytest

from bot.outbound.kubernetes_http import KubernetesHttp, in_cluster_url, name
from bot.ports import ConflictError, SourceError
from sandbox.addresses import free_port
from sandbox.controlplane.control_plane import ControlPlane
from tests.outbound.servers import Answering, Asked, Hangup, Says, Silence, Trickle, server

PODS = "/api/v1/namespaces/llm/pods"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


def client(url: str, token_file: Path, **more) -> KubernetesHttp:
    more = {"timeout_seconds": 0.5, "ca_file": Path("/no/such/ca.crt"), **more}
    return KubernetesHttp(url, token_file=token_file, **more)


def failure(answer: Answering, token_file: Path, *, timeout_seconds: float = 20) -> SourceError:
    with server(answer) as api, pytest.raises(SourceError) as raised:
        client(api.url, token_file, timeout_seconds=timeout_seconds).get(PODS)
    assert len(api.asked) == 1  # nothing is asked twice
    return raised.value


def status(code: int, message: str, **more) -> Says:
    return Says({"kind": "Status", "message": message, "code": code, **more}, code)


def test_the_token_is_read_anew_for_each_request(token_file):
    with server(lambda _: Says({"kind": "PodList"})) as api:
        http = client(api.url, token_file)
        http.get(PODS)
        token_file.write_text("second\n")
        http.get(PODS)
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer first", "Bearer second"]


def test_connections_are_kept(token_file):
    with server(lambda _: Says({"kind": "PodList"})) as api:
        http = client(api.url, token_file)
        for _ in range(5):
            http.get(PODS)
    assert len({asked.connection for asked in api.asked}) == 1


def test_without_a_token_file_the_error_names_it(tmp_path):
    with pytest.raises(SourceError, match=r"no-token: No such file"):
        client("http://127.0.0.1:9", tmp_path / "no-token").get(PODS)


@pytest.mark.parametrize("bad", ["../secrets", "a/b", "", "A", "x" * 254, "a?watch=1", "ü", "a\n"])
def test_what_is_no_name_never_becomes_a_path(bad: str):
    with pytest.raises(SourceError, match="not a name"):
        name(bad)


def test_in_a_pod_the_address_is_the_kubelets_word():
    there = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster_url(there) == "https://10.0.0.1:443"
    assert in_cluster_url({**there, "KUBERNETES_SERVICE_HOST": "fd00::1"}) == "https://[fd00::1]:443"
    with pytest.raises(SourceError, match="VLLM_ONCALL_KUBERNETES__URL"):
        in_cluster_url({})


def test_a_list_is_read_page_by_page(token_file):
    def pages(asked: Asked) -> Says:
        start = int(asked.query.get("continue", "0"))
        more = {"continue": str(start + 2)} if start < 4 else {}
        return Says({"items": [{"n": start}, {"n": start + 1}], "metadata": more})

    with server(pages) as api:
        found = list(
            client(api.url, token_file, page_size=2).items(PODS, [("labelSelector", "app=chat,tier in (a,b)")])
        )
    assert [one["n"] for one in found] == [0, 1, 2, 3, 4, 5]
    assert [asked.query["limit"] for asked in api.asked] == ["2", "2", "2"]
    assert {asked.query["labelSelector"] for asked in api.asked} == {"app=chat,tier in (a,b)"}


def test_a_list_of_nothing_may_be_null(token_file):
    with server(lambda _: Says({"items": None, "metadata": {}})) as api:
        assert list(client(api.url, token_file).items(PODS)) == []


def test_only_a_404_is_absence(token_file):
    with server(lambda asked: status(404 if asked.path == PODS else 500, "no")) as api:
        http = client(api.url, token_file)
        assert http.find(PODS) is None
        with pytest.raises(SourceError):
            http.find("/api/v1/nodes/a")


def test_silence_ends_after_the_time_allowed(token_file):
    start = time.monotonic()
    error = failure(lambda _: Silence(), token_file, timeout_seconds=0.5)
    assert "did not answer within 0.5 s" in error.why and error.retryable
    assert time.monotonic() - start < 2


def test_an_answer_without_end_ends_too(token_file):
    start = time.monotonic()
    assert "did not answer within 0.5 s" in failure(lambda _: Trickle(), token_file, timeout_seconds=0.5).why
    assert time.monotonic() - start < 2


def test_a_broken_connection_is_worth_another_try(token_file):
    error = failure(lambda _: Hangup(), token_file)
    assert "broke" in error.why and error.retryable


def test_nobody_listening_names_the_address_and_the_setting(token_file):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceError) as raised:
        client(url, token_file).get(PODS)
    assert url in raised.value.why and raised.value.retryable
    assert "VLLM_ONCALL_KUBERNETES__URL" in raised.value.hint


def test_forbidden_names_the_verb_the_resource_and_who(token_file):
    words = 'nodes is forbidden: User "system:serviceaccount:oncall:bot" cannot list resource "nodes" in API group ""'
    error = failure(lambda _: status(403, f"{words} at the cluster scope"), token_file)
    assert "the role of system:serviceaccount:oncall:bot does not allow `list` on `nodes`" in error.why
    assert error.hint.endswith("kubectl auth can-i list nodes --as=system:serviceaccount:oncall:bot")
    assert not error.retryable


def test_forbidden_by_a_quota_is_not_blamed_on_the_role(token_file):
    error = failure(lambda _: status(403, 'pods "x" is forbidden: exceeded quota: gpus'), token_file)
    assert "exceeded quota" in error.why and "role" not in error.why + error.hint


def test_an_unknown_token_names_its_file(token_file):
    error = failure(lambda _: status(401, "Unauthorized"), token_file)
    assert str(token_file) in error.hint


@pytest.mark.parametrize(("code", "retryable"), [(400, False), (410, True), (429, True), (500, True), (503, True)])
def test_some_refusals_are_worth_another_try(token_file, code: int, retryable: bool):
    error = failure(lambda _: status(code, "words"), token_file)
    assert error.retryable is retryable
    assert f"answered {code}: words" in error.why


def test_something_else_than_an_api_server_is_said_to_be_one(token_file):
    assert "other than an object" in failure(lambda _: Says("<html>hello</html>"), token_file).why


def test_a_redirect_is_not_followed(token_file):
    error = failure(lambda _: Says(b"", 302, {"Location": "http://127.0.0.1:1/"}), token_file)
    assert "answered 302" in error.why


def test_a_patch_that_got_no_answer_says_that_it_may_have_happened(token_file):
    with server(lambda _: Silence()) as api, pytest.raises(SourceError, match="may have happened"):
        client(api.url, token_file).patch_json(PODS, [{"op": "test", "path": "/a", "value": 1}])
    assert [asked.method for asked in api.asked] == ["PATCH"]


def test_a_failed_test_and_a_409_are_conflicts_an_invalid_object_is_none(token_file):
    generic = "the server rejected our request due to an error in our request"
    invalid = {"causes": [{"field": "spec.replicas"}]}
    for said, conflict in (
        (status(422, generic, details={}), True),
        (status(409, "the object has been modified"), True),
        (status(422, "Deployment is invalid", details=invalid), False),
    ):
        with server(lambda _, said=said: said) as api, pytest.raises(SourceError) as raised:
            client(api.url, token_file).patch_json(PODS, [])
        assert isinstance(raised.value, ConflictError) is conflict


def test_thirty_two_threads_share_one_client(token_file):
    def slow(_: Asked) -> Says:
        time.sleep(0.2)
        return Says({"kind": "PodList"})

    with server(slow) as api:
        http = client(api.url, token_file, timeout_seconds=5)
        threads = [threading.Thread(target=http.get, args=(PODS,)) for _ in range(32)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(api.asked) == 32
    assert time.monotonic() - start < 3  # one after the other would be 6.4 s


def test_a_server_of_another_ca_is_not_trusted(control_plane: ControlPlane, token_file, tmp_path):
    """Without a CA file the system's are asked, which do not know the cluster's."""
    with pytest.raises(SourceError, match="no trusted TLS connection"):
        client(control_plane.url, token_file, timeout_seconds=5).get(PODS)


def test_a_frozen_api_server_is_told_apart_and_then_answers_again(tmp_path):
    with ControlPlane(tmp_path) as plane:
        token = tmp_path / "bot-token"
        token.write_text(plane.token("default", "default"))
        http = client(plane.url, token, ca_file=plane.ca, timeout_seconds=4)  # a busy machine is slow too
        assert http.find("/version") is not None
        plane.apiserver.freeze()
        with pytest.raises(SourceError, match="did not answer within 4 s"):
            http.find("/version")
        plane.apiserver.thaw()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert http.find("/version") is not None
                return
            except SourceError:
                assert time.monotonic() < deadline
