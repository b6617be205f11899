import json
from pathlib import Path
from typing import Any

from sandbox.controlplane.audit import entries


def _line(**changes: Any) -> str:
    entry = {
        "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/llm/deployments/chat-70b/scale",
        "verb": "patch",
        "user": {"username": "system:serviceaccount:vllm-oncall:vllm-oncall"},
        "userAgent": "vllm-oncall",
        "objectRef": {"resource": "deployments", "subresource": "scale", "namespace": "llm", "name": "chat-70b"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-24T22:00:00.000001Z",
    }
    return json.dumps({**entry, **changes}) + "\n"


def test_only_a_write_that_was_carried_out_changed_something(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    dry = "/apis/apps/v1/namespaces/llm/deployments/chat-70b/scale?dryRun=All"
    log.write_text(
        _line() + _line(requestURI=dry) + _line(verb="get") + _line(responseStatus={"code": 409}) + _line(verb="watch")
    )
    assert [entry.changed_something for entry in entries(log)] == [True, False, False, False, False]
    assert [entry.dry_run for entry in entries(log)] == [False, True, False, False, False]


def test_a_watch_counts_once_and_a_line_in_the_making_not_yet(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line(stage="ResponseStarted", verb="watch") + _line(verb="watch") + _line()[:40])
    assert [entry.verb for entry in entries(log)] == ["watch"]


def test_a_url_without_object_is_an_entry_too(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line(objectRef={}, requestURI="/version", verb="get", responseStatus={}))
    (entry,) = entries(log)
    assert (entry.resource, entry.name, entry.code, entry.uri) == ("", "", 0, "/version")


def test_before_the_first_request_there_is_nothing(tmp_path: Path) -> None:
    assert list(entries(tmp_path / "audit.log")) == []
