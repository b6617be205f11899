from dataclasses import replace

import pytest

from bot.actions import rollback_workload
from bot.actions.contract import Action, Aim, Progress
from bot.actions.rollback_workload import Params
from bot.ports import ConflictError
from tests.fakes import fake_controls, fake_sources

FITS_THE_CONTRACT: Action = rollback_workload  # judged by mypy


@pytest.fixture(autouse=True)
def bad_revision(chat):
    chat.bad_revision()


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def controls(chat):
    return fake_controls(cluster=chat.cluster)


def params(chat, with_=None) -> Params:
    return rollback_workload.relative(with_ or {}, Aim("chat-70b", chat.ref, None, None), sources(chat))


def argument(chat) -> str:
    return chat.workload.template["spec"]["containers"][0]["args"][0]


def rolled_back(chat) -> Params:
    wanted = params(chat)
    preview = rollback_workload.preview(wanted, sources(chat), controls(chat))
    rollback_workload.execute(wanted, preview.before, sources(chat), controls(chat))
    return wanted


# ---------------------------------------------------------------------------------------------- from words to params


def test_without_a_number_the_revision_before_the_current_comes_back(chat):
    wanted = params(chat)
    assert (wanted.from_revision, wanted.revision) == (2, 1)
    assert rollback_workload.button(wanted) == "roll back 2 → 1"
    assert rollback_workload.by_hand(wanted) == "kubectl -n llm rollout undo deployment/chat-70b --to-revision=1"


def test_a_named_revision_is_taken(chat):
    assert params(chat, {"revision": "1"}).replica_set == chat.cluster.history[chat.ref][1].replica_set


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"revision": 7}, "has no revision 7; there are: 2, 1"),
        ({"revision": 2}, "revision 2 is the current one"),
        ({"revision": "good"}, "say revision=4, or nothing"),
        ({"to": 1}, "say revision=4, or nothing"),
    ],
)
def test_a_revision_that_cannot_be_is_refused_in_words(chat, words, reason):
    with pytest.raises(ValueError, match=reason):
        params(chat, words)


def test_a_first_revision_has_nothing_to_go_back_to(chat):
    del chat.cluster.history[chat.ref][1]
    with pytest.raises(ValueError, match="no earlier revision"):
        params(chat)


def test_a_stateful_set_is_rolled_back_by_hand(chat):
    ref = chat.cluster.add_workload(name="whisper", kind="StatefulSet")
    with pytest.raises(ValueError, match="kubectl -n llm rollout undo statefulset/whisper"):
        rollback_workload.relative({}, Aim(None, ref, None, None), sources(chat))


# ---------------------------------------------------------------------------------------------- objections


def test_with_the_revisions_as_meant_nothing_is_objected(chat):
    assert rollback_workload.objections(params(chat), sources(chat)) == ()


def test_a_revision_that_is_gone_is_told_with_those_that_are_left(chat):
    wanted = params(chat)
    del chat.cluster.history[chat.ref][1]
    (objection,) = rollback_workload.objections(wanted, sources(chat))
    assert objection.startswith("revision 1 (chat-70b-") and objection.endswith("there are: 2")


def test_a_revision_that_is_current_already_is_told(chat):
    wanted = rolled_back(chat)
    assert rollback_workload.objections(wanted, sources(chat)) == ("revision 3 is the current one of chat-70b already",)


def test_a_newer_revision_is_told(chat):
    wanted = params(chat)
    before = chat.workload.template
    after = {**before, "spec": {"containers": [{**before["spec"]["containers"][0], "image": "vllm:next"}]}}
    chat.cluster.set_template(chat.ref, before=before, after=after, cause="next")
    assert "revision 3 is the current one of chat-70b, no longer 2" in (
        rollback_workload.objections(wanted, sources(chat))
    )


def test_the_rollout_that_is_rolled_back_may_be_in_progress(chat):
    chat.change(updated=1, ready=2)
    assert rollback_workload.objections(params(chat), sources(chat)) == ()


def test_a_paused_workload_would_not_roll(chat):
    chat.change(paused=True)
    assert (
        "kubectl -n llm rollout resume deployment/chat-70b"
        in (rollback_workload.objections(params(chat), sources(chat))[0])
    )


def test_a_deployment_tool_is_named(chat):
    chat.change(managed_by="Argo CD")
    assert "Argo CD manages chat-70b" in rollback_workload.objections(params(chat), sources(chat))[0]


def test_without_room_for_the_extra_replica_a_rolling_update_would_never_move(chat):
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)
    (objection,) = rollback_workload.objections(params(chat), sources(chat))
    assert "a new replica must start first, and no node has 4 free GPUs" in objection
    chat.change(max_unavailable=1)  # then an old one goes first
    assert rollback_workload.objections(params(chat), sources(chat)) == ()


def test_a_revision_whose_replicas_all_stand_needs_no_room(chat):
    """The bad rollout stopped at its first replica: the old ones are there, and only the new one goes."""
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)
    history = chat.cluster.history[chat.ref]
    wanted = params(chat)
    history[1] = replace(history[1], replicas=3, ready=3)
    assert rollback_workload.objections(wanted, sources(chat)) == ()


# ---------------------------------------------------------------------------------------------- doing it


def test_a_preview_changes_nothing_and_keeps_both_templates(chat):
    preview = rollback_workload.preview(params(chat), sources(chat), controls(chat))
    assert argument(chat) == "--max-num-seqs=16"
    kept = [preview.before[key]["spec"]["containers"][0]["args"][0] for key in ("template", "target")]
    assert kept == ["--max-num-seqs=16", "--max-num-seqs=256"]


def test_a_preview_from_another_revision_is_a_conflict(chat):
    wanted = rolled_back(chat)
    with pytest.raises(ConflictError, match="current one of chat-70b already"):
        rollback_workload.preview(wanted, sources(chat), controls(chat))


def test_exactly_the_named_template_comes_back(chat):
    good = chat.cluster.history[chat.ref][1].template
    rolled_back(chat)
    assert chat.workload.template == good


def test_executing_twice_changes_once(chat):
    wanted = params(chat)
    before = rollback_workload.preview(wanted, sources(chat), controls(chat)).before
    for _ in range(2):
        rollback_workload.execute(wanted, before, sources(chat), controls(chat))
    assert chat.cluster.changes == [("set_template", chat.ref)]


def test_undo_puts_back_what_was_rolled_back(chat):
    wanted = rolled_back(chat)
    way_back = rollback_workload.undo(wanted, {})
    assert rollback_workload.button(way_back) == "roll back 3 → 2"
    assert rollback_workload.objections(way_back, sources(chat)) == ()
    before = rollback_workload.preview(way_back, sources(chat), controls(chat)).before
    rollback_workload.execute(way_back, before, sources(chat), controls(chat))
    assert argument(chat) == "--max-num-seqs=16"


# ---------------------------------------------------------------------------------------------- did it take effect


def test_it_took_effect_when_every_replica_runs_the_template_under_its_new_number(chat):
    wanted = rolled_back(chat)
    chat.settle()
    effect = rollback_workload.took_effect(wanted, sources(chat))
    assert effect.progress is Progress.YES
    assert effect.detail == "3 of 3 replicas run the template of revision 1 (now revision 3)"


def test_while_it_rolls_it_is_waited_for(chat):
    effect = rollback_workload.took_effect(rolled_back(chat), sources(chat))
    assert effect.progress is Progress.NOT_YET


def test_a_new_replica_without_gpus_stands_still(chat):
    wanted = rolled_back(chat)
    pod = chat.cluster.add_pod(chat.ref, node=None, unschedulable="0/2 nodes are available")
    effect = rollback_workload.took_effect(wanted, sources(chat))
    assert effect.progress is Progress.PARTLY
    assert effect.detail.endswith(f"; {pod.name} is Pending: 0/2 nodes are available")


def test_somebody_who_put_the_bad_revision_back_is_seen(chat):
    effect = rollback_workload.took_effect(params(chat), sources(chat))
    assert effect.progress is Progress.NO
    assert "chat-70b is set to revision 2, not to the template of 1" in effect.detail


# ---------------------------------------------------------------------------------------------- capacity


def test_a_rolling_update_with_a_surge_loses_nothing(chat):
    change = rollback_workload.capacity_change(params(chat), sources(chat))
    assert (change.replaced, change.lost, change.waves, change.gpus_needed) == (3, 0, 3, 4)


def test_what_may_be_unavailable_is_lost_meanwhile(chat):
    chat.change(max_surge=0, max_unavailable=2)
    change = rollback_workload.capacity_change(params(chat), sources(chat))
    assert (change.lost, change.waves, change.gpus_needed) == (2, 2, 0)


def test_replicas_that_do_not_serve_are_not_lost(chat):
    chat.change(ready=0, max_surge=0, max_unavailable=1)
    assert rollback_workload.capacity_change(params(chat), sources(chat)).lost == 0


def test_recreating_takes_everything_away(chat):
    chat.change(max_surge=None, max_unavailable=None)
    assert rollback_workload.capacity_change(params(chat), sources(chat)).lost == 3
