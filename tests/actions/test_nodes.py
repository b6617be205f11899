import pytest
from pydantic import ValidationError

from bot.actions import nodes
from bot.actions.contract import Aim
from bot.ports import ConflictError
from tests.fakes import fake_sources

NOWHERE = Aim(None, None, None, None)


def test_the_incidents_node_is_meant_unless_another_one_is_named(chat):
    sources = fake_sources(cluster=chat.cluster)
    assert nodes.meant(nodes.Words(), Aim(None, None, None, "gpu-01"), sources).name == "gpu-01"
    assert nodes.meant(nodes.Words(node="gpu-02"), Aim(None, None, None, "gpu-01"), sources).name == "gpu-02"


def test_without_a_node_it_says_what_is_missing(chat):
    with pytest.raises(ValueError, match="say node=gpu-07"):
        nodes.meant(nodes.Words(), NOWHERE, fake_sources(cluster=chat.cluster))


def test_a_node_that_is_not_there_is_told_with_those_that_are(chat):
    with pytest.raises(ValueError, match="there is no node gpu-07; nodes with GPUs: gpu-01, gpu-02"):
        nodes.meant(nodes.Words(node="gpu-07"), NOWHERE, fake_sources(cluster=chat.cluster))


@pytest.mark.parametrize("with_", [{"nod": "gpu-01"}, {"node": "GPU 1"}])
def test_wrong_words_are_answered_in_words(with_):
    with pytest.raises(ValueError, match=r"^nod") as refused:
        nodes.worded(nodes.Words, with_)
    assert not isinstance(refused.value, ValidationError)


def test_a_node_that_went_meanwhile_is_a_conflict(chat):
    with pytest.raises(ConflictError, match="the node gpu-07 does not exist any more"):
        nodes.there("gpu-07", fake_sources(cluster=chat.cluster))


def test_the_parameters_say_whether_the_node_takes_pods_afterwards():
    assert nodes.OutOfService(node="gpu-01").model_dump() == {"node": "gpu-01", "schedulable": False}
    assert nodes.BackInService(node="gpu-01").model_dump() == {"node": "gpu-01", "schedulable": True}
    with pytest.raises(ValidationError):
        nodes.OutOfService.model_validate({"node": "gpu-01", "schedulable": True})
