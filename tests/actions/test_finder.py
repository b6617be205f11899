import pytest

from bot.actions import finder, rollback_workload, scale_workload


def test_the_word_is_the_files_name():
    assert finder.find("scale_workload") is scale_workload
    assert finder.find("rollback_workload") is rollback_workload


def test_what_actions_share_is_no_action():
    assert {"contract", "finder", "owners"}.isdisjoint(finder.names())
    assert {"scale_workload", "rollback_workload"} <= set(finder.names())


def test_a_wrong_word_gets_the_nearest_match():
    with pytest.raises(finder.UnknownActionError, match="did you mean scale_workload"):
        finder.find("scale_worklod")


def test_the_way_back_of_a_change_is_a_change_of_its_own():
    params = scale_workload.Params(namespace="llm", name="chat", before=3, after=4)
    back = finder.way_back("scale_workload", params, {})
    assert back == finder.WayBack("scale_workload", params.model_copy(update={"before": 4, "after": 3}))


@pytest.mark.parametrize("name", ["contract", "..ports", "scale_workload.Params", ""])
def test_only_actions_are_found(name):
    with pytest.raises(finder.UnknownActionError, match="there is no action"):
        finder.find(name)
