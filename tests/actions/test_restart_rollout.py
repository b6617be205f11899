from dataclasses import replace

import pytest
from pydantic import ValidationError

from bot.actions import finder, restart_rollout
from bot.actions.contract import Action, Aim, Progress
from bot.actions.restart_rollout import Params
from bot.ports import ConflictError
from tests.fakes import fake_controls, fake_sources

FITS_THE_CONTRACT: Action = restart_rollout  # judged by mypy
PARAMS = Params(namespace="llm", name="chat-70b", before=None)
AT = "2026-11-24T02:13:00Z"


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def controls(chat):
    return fake_controls(cluster=chat.cluster)


def restarted(chat, params=PARAMS):
    before = restart_rollout.preview(params, sources(chat), controls(chat)).before
    restart_rollout.execute(params, before, sources(chat), controls(chat))
    return before


def annotation(chat):
    return (chat.workload.template["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/restartedAt")


def test_the_same_suggestion_later_is_the_same_proposal(chat):
    aim = Aim("chat-70b", chat.ref, None, None)
    assert restart_rollout.relative({}, aim, sources(chat)) == PARAMS
    with pytest.raises(ValueError, match="takes no parameters; said was: add") as refused:
        restart_rollout.relative({"add": 1}, aim, sources(chat))
    assert not isinstance(refused.value, ValidationError)
    with pytest.raises(ValueError, match="not known which workload"):
        restart_rollout.relative({}, Aim(None, None, None, None), sources(chat))


def test_the_preview_shows_the_annotation_and_changes_nothing(chat):
    preview = restart_rollout.preview(PARAMS, sources(chat), controls(chat))
    meta = preview.change.after["spec"]["template"]["metadata"]
    assert meta["annotations"] == {"kubectl.kubernetes.io/restartedAt": AT}
    assert chat.cluster.changes == [] and annotation(chat) is None


def test_it_is_done_once_however_often_it_is_begun(chat):
    before = restarted(chat)
    restart_rollout.execute(PARAMS, before, sources(chat), controls(chat))
    assert chat.cluster.changes == [("set_template", chat.ref)]
    assert annotation(chat) == AT


def test_a_template_that_somebody_changed_meanwhile_is_a_conflict(chat):
    before = restart_rollout.preview(PARAMS, sources(chat), controls(chat)).before
    chat.bad_revision()
    with pytest.raises(ConflictError):
        restart_rollout.execute(PARAMS, before, sources(chat), controls(chat))


def test_it_is_in_place_when_all_replicas_are_new_and_ready(chat):
    assert restart_rollout.took_effect(PARAMS, sources(chat)).progress is Progress.NO
    restarted(chat)
    effect = restart_rollout.took_effect(PARAMS, sources(chat))
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, "0 of 3 replicas are new, 3 ready")
    chat.settle()
    effect = restart_rollout.took_effect(PARAMS, sources(chat))
    assert (effect.progress, effect.detail) == (Progress.YES, "all 3 replicas of chat-70b are new and ready")


def test_a_new_replica_without_gpus_stands_still_and_is_named(chat):
    restarted(chat)
    words = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    pod = chat.cluster.add_pod(chat.ref, node=None, unschedulable=words)
    effect = restart_rollout.took_effect(PARAMS, sources(chat))
    assert effect.progress is Progress.PARTLY
    assert effect.detail == f"0 of 3 replicas are new, 3 ready; {pod.name} is Pending: {words}"


def test_nothing_speaks_against_it_where_a_replica_more_has_room(chat):
    assert restart_rollout.objections(PARAMS, sources(chat)) == ()
    change = restart_rollout.capacity_change(PARAMS, sources(chat))
    assert (change.replaced, change.lost, change.gpus_needed) == (3, 0, 4)


def test_a_deployment_tool_does_not_mind(chat):
    chat.change(managed_by="Argo CD", annotations={"argocd.argoproj.io/tracking-id": "prod:x"})
    assert restart_rollout.objections(PARAMS, sources(chat)) == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"paused": True}, "is paused"),
        ({"updated": 1}, "a rollout of chat-70b is in progress"),
        ({"desired": 0, "ready": 0, "updated": 0}, "chat-70b has no replicas"),
    ],
)
def test_what_speaks_against_it(chat, fields, words):
    chat.change(**fields)
    assert words in restart_rollout.objections(PARAMS, sources(chat))[0]


def test_without_free_gpus_for_the_one_that_must_come_first_it_is_objected_to(chat):
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)
    (objection,) = restart_rollout.objections(PARAMS, sources(chat))
    assert "so a new replica must start first, and no node has 4 free GPUs for it" in objection


def test_somebody_elses_restart_is_told(chat):
    restarted(chat)
    chat.settle()
    (objection,) = restart_rollout.objections(PARAMS, sources(chat))
    assert objection == f"somebody restarted chat-70b meanwhile ({AT})"
    with pytest.raises(ConflictError, match="somebody restarted"):
        restart_rollout.preview(PARAMS, sources(chat), controls(chat))


def test_pods_that_only_go_by_hand_are_told(chat):
    ref = chat.cluster.add_workload(name="draft", kind="StatefulSet", replicas=1)
    chat.cluster.workloads[ref] = replace(chat.cluster.workloads[ref], max_surge=None, max_unavailable=None)
    params = Params(namespace="llm", kind="StatefulSet", name="draft", before=None)
    assert "updateStrategy OnDelete" in restart_rollout.objections(params, sources(chat))[0]


def test_a_workload_that_went_is_told(chat):
    del chat.cluster.workloads[chat.ref]
    assert restart_rollout.objections(PARAMS, sources(chat)) == ("llm/Deployment/chat-70b does not exist",)
    assert restart_rollout.took_effect(PARAMS, sources(chat)).progress is Progress.NO
    with pytest.raises(ConflictError):
        restart_rollout.execute(PARAMS, {"template": {}, "at": AT}, sources(chat), controls(chat))


def test_one_that_hangs_is_taken_back(chat):
    before = restarted(chat)
    chat.cluster.add_pod(chat.ref, node=None, unschedulable="no room")
    back = finder.way_back("restart_rollout", PARAMS, before)
    assert back == finder.WayBack("restart_rollout", PARAMS.model_copy(update={"before": AT, "after": None}))
    assert "Take the restart of chat-70b back" in restart_rollout.describe(back.params)
    assert restart_rollout.objections(back.params, sources(chat)) == ()
    restarted(chat, back.params)
    assert annotation(chat) is None
    chat.settle()
    assert restart_rollout.took_effect(back.params, sources(chat)).progress is Progress.YES


def test_the_command_is_kubectls(chat):
    assert restart_rollout.by_hand(PARAMS) == "kubectl -n llm rollout restart deployment/chat-70b"
    assert restart_rollout.button(PARAMS) == "restart chat-70b"
