from dataclasses import replace

import pytest

from bot.actions import finder, uncordon_node
from bot.actions.contract import Action, Aim, Progress
from bot.actions.nodes import BackInService
from bot.ports import ConflictError, Risk
from tests.fakes import fake_controls, fake_sources

FITS_THE_CONTRACT: Action = uncordon_node  # judged by mypy
PARAMS = BackInService(node="gpu-01")


@pytest.fixture
def cordoned(chat):
    chat.cluster.machines["gpu-01"] = replace(chat.cluster.machines["gpu-01"], schedulable=False)
    return chat


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def change(chat, **fields):
    chat.cluster.machines["gpu-01"] = replace(chat.cluster.machines["gpu-01"], **fields)


def test_it_is_reversible_at_once(cordoned):
    assert uncordon_node.RISK is Risk.LOW
    assert uncordon_node.relative({"node": "gpu-01"}, Aim(None, None, None, None), sources(cordoned)) == PARAMS
    assert "it takes new pods again" in uncordon_node.describe(PARAMS)
    assert uncordon_node.button(PARAMS) == "uncordon gpu-01"
    assert uncordon_node.by_hand(PARAMS) == "kubectl uncordon gpu-01"


def test_the_preview_shows_the_field_and_changes_nothing(cordoned):
    preview = uncordon_node.preview(PARAMS, sources(cordoned), fake_controls(cluster=cordoned.cluster))
    assert (preview.change.before["spec"], preview.change.after["spec"]) == ({"unschedulable": True}, {})
    assert cordoned.cluster.changes == []


def test_it_is_done_once_however_often_it_is_begun(cordoned):
    for _ in range(2):
        uncordon_node.execute(PARAMS, {}, sources(cordoned), fake_controls(cluster=cordoned.cluster))
    assert cordoned.cluster.changes == [("uncordon", "gpu-01")]
    effect = uncordon_node.took_effect(PARAMS, sources(cordoned))
    assert (effect.progress, effect.detail) == (Progress.YES, "gpu-01 takes new pods again")


def test_what_keeps_pods_away_all_the_same_is_told(cordoned):
    taints = ("node.kubernetes.io/unschedulable:NoSchedule", "gpu=broken:NoSchedule", "slow:PreferNoSchedule")
    change(cordoned, schedulable=True, ready=False, taints=taints)
    detail = uncordon_node.took_effect(PARAMS, sources(cordoned)).detail
    assert detail == (
        "gpu-01 takes new pods again; it is not ready; only those go there that tolerate gpu=broken:NoSchedule"
    )


def test_a_node_that_takes_pods_needs_none(chat):
    assert uncordon_node.objections(PARAMS, sources(chat)) == ("gpu-01 is not cordoned",)
    with pytest.raises(ValueError, match="gpu-01 is not cordoned"):
        uncordon_node.relative({"node": "gpu-01"}, Aim(None, None, None, None), sources(chat))


def test_a_node_that_somebody_cordoned_again_is_not_in_place(cordoned):
    assert uncordon_node.took_effect(PARAMS, sources(cordoned)).progress is Progress.NO


def test_a_quarantine_is_ended_through_its_own_door(cordoned):
    change(cordoned, annotations={"quarantineHealthEvent": "[...]"})
    (objection,) = uncordon_node.objections(PARAMS, sources(cordoned))
    assert objection.endswith("To call it off: kubectl uncordon gpu-01")


def test_a_node_that_went_is_told(cordoned):
    del cordoned.cluster.machines["gpu-01"]
    assert "does not exist any more" in uncordon_node.objections(PARAMS, sources(cordoned))[0]
    assert uncordon_node.took_effect(PARAMS, sources(cordoned)).progress is Progress.NO
    with pytest.raises(ConflictError):
        uncordon_node.execute(PARAMS, {}, sources(cordoned), fake_controls(cluster=cordoned.cluster))


def test_its_way_back_is_to_cordon():
    back = finder.way_back("uncordon_node", PARAMS, {})
    assert back is not None and back.action == "cordon_node"
    assert back.params.model_dump() == {"node": "gpu-01", "schedulable": False}
