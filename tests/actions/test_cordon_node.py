from dataclasses import replace

import pytest

from bot.actions import cordon_node, finder
from bot.actions.contract import Action, Aim, Progress
from bot.actions.nodes import OutOfService
from bot.ports import ConflictError, Risk
from tests.fakes import fake_controls, fake_sources

FITS_THE_CONTRACT: Action = cordon_node  # judged by mypy
PARAMS = OutOfService(node="gpu-01")
AIM = Aim(None, None, None, "gpu-01")


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def change(chat, **fields):
    chat.cluster.machines["gpu-01"] = replace(chat.cluster.machines["gpu-01"], **fields)


def test_it_is_reversible_at_once(chat):
    assert cordon_node.RISK is Risk.LOW
    assert cordon_node.relative({}, AIM, sources(chat)) == PARAMS
    assert cordon_node.describe(PARAMS).startswith("Cordon gpu-01: new pods go elsewhere, running pods stay.")
    assert (cordon_node.button(PARAMS), cordon_node.by_hand(PARAMS)) == ("cordon gpu-01", "kubectl cordon gpu-01")
    assert cordon_node.capacity_change(PARAMS, sources(chat)) == {}


def test_the_preview_shows_the_field_and_changes_nothing(chat):
    preview = cordon_node.preview(PARAMS, sources(chat), fake_controls(cluster=chat.cluster))
    assert preview.change.after["spec"] == {"unschedulable": True}
    assert preview.before == {"schedulable": True}
    assert chat.cluster.changes == []


def test_it_is_done_once_however_often_it_is_begun(chat):
    controls = fake_controls(cluster=chat.cluster)
    for _ in range(2):
        cordon_node.execute(PARAMS, {}, sources(chat), controls)
    assert chat.cluster.changes == [("cordon", "gpu-01")]
    effect = cordon_node.took_effect(PARAMS, sources(chat))
    assert (effect.progress, effect.detail) == (Progress.YES, "gpu-01 takes no new pods; those that run there stay")


def test_a_cordoned_node_needs_none(chat):
    change(chat, schedulable=False)
    assert cordon_node.objections(PARAMS, sources(chat)) == ("gpu-01 is cordoned already",)
    with pytest.raises(ValueError, match="gpu-01 is cordoned already"):
        cordon_node.relative({}, AIM, sources(chat))
    with pytest.raises(ConflictError):
        cordon_node.preview(PARAMS, sources(chat), fake_controls(cluster=chat.cluster))


def test_a_node_that_somebody_uncordoned_is_not_in_place(chat):
    effect = cordon_node.took_effect(PARAMS, sources(chat))
    assert effect.progress is Progress.NO and "somebody uncordoned it" in effect.detail


def test_whoever_holds_the_node_is_named(chat):
    change(chat, labels={"dgxc.nvidia.com/nvsentinel-state": "draining"})
    (objection,) = cordon_node.objections(PARAMS, sources(chat))
    assert objection.startswith("NVSentinel holds gpu-01 (draining)")


def test_a_node_that_went_is_told(chat):
    del chat.cluster.machines["gpu-01"]
    assert "does not exist any more" in cordon_node.objections(PARAMS, sources(chat))[0]
    assert cordon_node.took_effect(PARAMS, sources(chat)).progress is Progress.NO
    with pytest.raises(ConflictError):
        cordon_node.execute(PARAMS, {}, sources(chat), fake_controls(cluster=chat.cluster))


def test_its_way_back_is_to_uncordon(chat):
    back = finder.way_back("cordon_node", PARAMS, {"schedulable": True})
    assert back is not None and back.action == "uncordon_node"
    assert back.params.model_dump() == {"node": "gpu-01", "schedulable": True}
