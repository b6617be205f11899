import json
from pathlib import Path

import pytest

from bot.vllm.xid_lines import UuidLine, XidLine, parsed

RECORDED = json.loads((Path(__file__).parents[1] / "payloads" / "nvml-h200-xid31.json").read_text())["dmesg"]


def xid(line: str) -> XidLine:
    found = parsed(line)
    assert isinstance(found, XidLine)
    return found


def test_a_real_line_of_an_h200_is_understood():
    found = xid(RECORDED[-1])
    assert (found.kind, found.number, found.pci, found.pid, found.process) == ("xid", 31, "0000:00:06", 555, "bad")
    assert found.message.startswith("channel 0x0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS GPC1")


def test_before_a_gpus_first_xid_the_driver_says_which_one_it_is():
    assert parsed(RECORDED[3]) == UuidLine("0000:00:06", "GPU-d91622e4-bc2c-c976-4942-c9171a0e0b7a")


def test_the_drivers_other_lines_are_about_something_else():
    others = [line for line in RECORDED if "Xid" not in line and "GPU at" not in line]
    assert len(others) == 4
    assert [parsed(line) for line in others] == [None] * 4


def test_an_unknown_process_is_not_a_name():
    found = xid("NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
    assert (found.number, found.pid, found.process, found.message) == (79, None, None, "GPU has fallen off the bus.")


def test_an_old_driver_writes_no_pci_and_no_process():
    assert xid("[...] NVRM: Xid (0000:03:00): 14, Channel 00000001") == XidLine(
        "xid", 14, "0000:03:00", "Channel 00000001"
    )


def test_with_mig_the_instances_stand_in_the_brackets():
    line = "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No"
    found = xid(line)
    assert (found.number, found.pid, found.mig_instance) == (94, 7194, "5")
    assert found.message == "Contained: CE User Channel (0x9). RST: No, D-RST: No"
    both = xid("NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:00): 13, pid=9, name=a, Graphics Exception")
    assert (both.pci, both.mig_instance) == ("0000:3b:00", "1/0")


def test_a_name_with_colons_is_kept_whole():
    found = xid("NVRM: Xid (PCI:0018:01:00): 145, pid=876767, name=ray::WorkerDict, RLW_RXPIPE Nonfatal XC0 i0 Link 13")
    assert (found.process, found.message) == ("ray::WorkerDict", "RLW_RXPIPE Nonfatal XC0 i0 Link 13")


def test_a_changed_recovery_action_keeps_its_text():
    found = xid("NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)")
    assert found.message == "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)"


def test_a_number_without_a_word_behind_it_still_counts():
    assert xid("kernel: NVRM: Xid (PCI:0000:01:00): 79").number == 79


def test_falling_off_the_bus_counts_without_its_number():
    found = xid("NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.")
    assert (found.number, found.pci) == (79, "0000:18:00")


def test_an_nvswitch_has_numbers_of_its_own():
    found = xid(
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)"
    )
    assert (found.kind, found.number, found.pci) == ("sxid", 12028, "0000:05:00")
    assert found.message == "nvidia-nvswitch3: Non-fatal, Link 32 egress non-posted PRIV error (First)"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "NVRM: Xid error: xyz, invalid data",
        "NVRM: Xid (invalid): some error",
        "usb 1-1: Xid (PCI:0000:01:00): 31, not the driver's",
        "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): xyz, Fatal error",
    ],
)
def test_what_only_looks_like_one_is_none(line):
    assert parsed(line) is None
