import pytest
from pydantic import ValidationError

from bot.vllm.xids import (
    Resolution,
    Seen,
    XidClass,
    _Catalogue,
    catalogue,
    recovery_action,
    recovery_actions,
    resolve,
    xid,
)

DRAIN = "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)"
REBOOT = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)"
DONE = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
FATAL = "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)"
NONFATAL = "RLW_SRC_TRACK Nonfatal XC1 i0 Link 12 (0x040988e2 0x00000008 0x00000000 0x00000000 0x00000000 0x00000000)"


def resolved(*seen: int | Seen, recovery: str | None = None) -> Resolution:
    found = resolve([one if isinstance(one, Seen) else Seen(one) for one in seen], recovery=recovery)
    assert found is not None
    return found


# ---------------------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((8, 11, 13, 31, 32, 43, 68, 69, 94), XidClass.APPLICATION),
        ((46, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158), XidClass.RESET),
        ((79, 151), XidClass.REBOOT),
        ((157,), XidClass.RMA),
        ((38, 44, 63, 92, 93, 108, 121, 137), XidClass.WATCH),
        ((45, 48, 144, 149, 150, 154, 171, 172), XidClass.COMPANIONS),
    ],
)
def test_each_xid_has_the_class_that_its_source_gives_it(numbers, expected):
    assert {number: xid(number).class_ for number in numbers} == dict.fromkeys(numbers, expected)


def test_every_entry_says_what_to_do_and_who_says_so():
    assert len(catalogue()) > 100
    assert [x.number for x in catalogue().values() if not x.do.strip() or not x.source.strip()] == []


def test_where_nvidia_restarts_or_ignores_the_bot_asks_for_no_reset_and_no_reboot():
    mild = ("RESTART_APP", "IGNORE")
    wrong = [x.number for x in catalogue().values() if x.nvidia.startswith(mild) and x.class_.hardware]
    assert wrong == [157], "157 is IGNORE for now, but nothing is left to repair the GPU with"


def test_where_nvidia_resets_the_bot_does_not_call_it_the_program():
    assert [x.number for x in catalogue().values() if x.nvidia.startswith("RESET_GPU") and not x.class_.hardware] == []


@pytest.mark.parametrize("number", [32, 48, 63, 94, 109])
def test_where_authorities_disagree_the_entry_says_so(number):
    assert xid(number).disagreement


def test_an_unknown_number_is_named_and_not_called_harmless():
    found = xid(4711)
    assert (found.number, found.class_) == (4711, XidClass.UNKNOWN)
    assert found.class_.rank > XidClass.WATCH.rank


def test_a_number_that_stands_there_twice_is_refused():
    row = {"xids": [31], "name": "a", "class": "watch", "nvidia": "", "source": "nvidia"}
    with pytest.raises(ValidationError, match="twice"):
        _Catalogue.model_validate({"xids": [row, row], "recovery": []})


# ---------------------------------------------------------------------------------------------- several together


def test_nothing_seen_resolves_to_nothing():
    assert resolve([]) is None


def test_a_page_fault_alone_is_the_programs():
    assert resolved(31).class_ is XidClass.APPLICATION


def test_a_clean_up_follows_the_xid_before_it():
    found = resolved(95, 45, 45, 45)
    assert (found.number, found.class_) == (95, XidClass.RESET)


def test_a_clean_up_alone_is_a_program_that_was_ended():
    assert resolved(45).class_ is XidClass.APPLICATION


def test_a_clean_up_after_a_page_fault_leaves_the_page_fault_to_decide():
    assert resolved(31, 45).number == 31


@pytest.mark.parametrize("seen", [(48,), (48, 63), (48, 64), (48, 95), (48, 63, 94), (63, 48, 45)])
def test_an_uncorrectable_error_asks_for_a_reset(seen):
    assert resolved(*seen).class_ is XidClass.RESET


def test_a_contained_error_that_needs_no_recovery_only_restarts_the_pod():
    assert resolved(63, 94, 48, recovery="none").class_ is XidClass.APPLICATION
    assert resolved(63, 94, 48).class_ is XidClass.RESET, "the recovery action is not known"
    assert resolved(63, 94, 48, recovery="gpu_reset").class_ is XidClass.RESET


def test_a_contained_error_beside_a_recorded_remap_is_the_pods():
    assert resolved(63, 94).class_ is XidClass.APPLICATION


def test_what_the_driver_asks_for_overrides_the_catalogue():
    found = resolved(31, Seen(154, DRAIN))
    assert (found.number, found.class_, found.because) == (154, XidClass.RESET, "the driver asks for drain and reset")
    assert resolved(Seen(154, DRAIN), Seen(154, REBOOT)).class_ is XidClass.REBOOT


def test_what_the_driver_no_longer_asks_for_is_over():
    assert resolved(95, Seen(154, DRAIN), Seen(154, DONE)).class_ is XidClass.WATCH
    assert resolved(95, Seen(154, DONE), 31).number == 31


def test_what_came_before_the_nodes_last_start_is_over_but_for_a_replacement():
    found = resolve([Seen(95, rebooted_since=True)])
    assert (found.number, found.class_) == (95, XidClass.WATCH)
    assert "started anew since" in found.because
    assert resolve([Seen(95, rebooted_since=True), Seen(31)]).number == 31
    assert resolve([Seen(157, rebooted_since=True)]).class_ is XidClass.RMA


def test_a_recovery_that_only_a_newer_driver_knows_is_not_nothing():
    found = resolved(Seen(154, "GPU recovery action changed from 0x0 (None) to 0x9 (Something New)"))
    assert found.class_ is XidClass.RESET


def test_a_change_of_the_recovery_action_without_its_text_points_at_the_others():
    assert resolved(154).class_ is XidClass.COMPANIONS


def test_an_nvlink5_line_decides_by_its_own_word():
    assert resolved(Seen(149, FATAL)).class_ is XidClass.RESET
    assert resolved(Seen(145, NONFATAL)).class_ is XidClass.WATCH
    assert resolved(149).class_ is XidClass.COMPANIONS


def test_the_most_costly_decides():
    assert resolved(31, 94, 79).number == 79
    assert resolved(119, 31).number == 119


# ---------------------------------------------------------------------------------------------- recovery actions


def test_every_number_of_nvml_has_a_name():
    assert [recovery_action(code) for code in range(8)] == [
        "none",
        "gpu_reset",
        "node_reboot",
        "drain_p2p",
        "drain_and_reset",
        "recover_imex_domain",
        "bus_reset",
        "system_reboot",
    ]


def test_a_number_that_only_a_newer_driver_knows_keeps_it():
    assert recovery_action(9) == "unknown_9"


def test_a_reboot_costs_more_than_a_reset():
    actions = recovery_actions()
    assert actions["none"].rank == 0
    assert actions["node_reboot"].rank > actions["drain_and_reset"].rank > actions["drain_p2p"].rank
