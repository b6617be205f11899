from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bot.gpu_readings import EventPage, GpuEvent, Holder
from bot.incidents.alert import AlertStatus
from bot.incidents.gpu_alert import alert_of
from bot.runbook.schema import Severity

AT = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)
EVENT = GpuEvent(
    "r-1", 1, AT, AT, xid=31, gpu_uuid="GPU-a", pci="0000:3b:00", pid=440, process="python3", message="MMU Fault"
)
HOLDER = Holder(namespace="llm", pod="chat-7d9f-abcde", by="kubelet")


def alert(event: GpuEvent, node: str = "gpu-03"):
    return alert_of(node, event, AT)


def test_an_xid_names_node_gpu_and_class():
    made = alert(EVENT)
    assert made.name == "GpuXid"
    assert {k: made.labels[k] for k in ("node", "gpu", "pci_bus_id", "xid", "xid_class")} == {
        "node": "gpu-03",
        "gpu": "GPU-a",
        "pci_bus_id": "0000:3b:00",
        "xid": "31",
        "xid_class": "application",
    }
    assert made.annotations["summary"] == "Xid 31 on gpu-03: Memory page fault"
    assert made.annotations["description"] == "python3 (440): MMU Fault"
    assert made.annotations["do"].startswith("Restart the pod")


@pytest.mark.parametrize(
    ("number", "severity"),
    [
        (79, Severity.CRITICAL),
        (95, Severity.CRITICAL),
        (48, Severity.CRITICAL),
        (157, Severity.CRITICAL),
        (31, Severity.WARNING),
        (4711, Severity.WARNING),
        (63, Severity.INFO),
    ],
)
def test_what_the_gpu_itself_has_is_critical(number, severity):
    assert alert(replace(EVENT, xid=number)).severity is severity


def test_what_the_driver_asks_for_decides():
    text = "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
    made = alert(replace(EVENT, xid=154, message=text))
    assert (made.labels["xid_class"], made.severity) == ("reboot", Severity.CRITICAL)


def test_the_pod_that_holds_the_gpu_is_named_where_it_is_one():
    made = alert(replace(EVENT, holders=(HOLDER,)))
    assert (made.labels["namespace"], made.labels["pod"]) == ("llm", "chat-7d9f-abcde")
    assert "pod" not in alert(replace(EVENT, holders=(HOLDER, replace(HOLDER, pod="other")))).labels
    assert "pod" not in alert(replace(EVENT, holders=(Holder(pod_uid="0a1b"),))).labels


def test_it_is_a_moment_of_which_no_end_is_told():
    assert alert(EVENT).is_moment
    assert not replace(alert(EVENT), ends_at="0001-01-01T00:00:00Z").is_moment
    assert not replace(alert(EVENT), status=AlertStatus.RESOLVED).is_moment


def test_a_lost_gpu_is_an_alert_without_an_xid():
    made = alert(replace(EVENT, kind="gpu_lost", xid=None, message=None, pid=None))
    assert (made.name, made.labels["event"], made.severity) == ("GpuEvent", "gpu_lost", Severity.CRITICAL)
    assert "xid" not in made.labels
    assert made.annotations == {"summary": "a GPU is lost on gpu-03"}


def test_hearing_it_twice_is_hearing_it_once():
    again = replace(EVENT, count=7, last_at=AT + timedelta(seconds=9), seen_by=("nvml", "kernel_log"))
    assert (alert(EVENT).fingerprint, alert(EVENT).starts_at) == (alert(again).fingerprint, alert(again).starts_at)
    assert alert(EVENT).fingerprint != alert(replace(EVENT, id="r-2")).fingerprint
    assert alert(EVENT).fingerprint != alert(EVENT, "gpu-04").fingerprint


def test_what_a_real_agent_told_of_a_real_xid_makes_an_alert():
    recorded = (Path(__file__).parents[1] / "payloads" / "agent-h100-x2-events.json").read_text()
    first, second, third = (alert(event) for event in TypeAdapter(EventPage).validate_json(recorded).events)
    assert first.name == "GpuXid"
    assert (first.labels["xid"], first.labels["xid_class"]) == ("31", "application")
    assert first.annotations["description"].startswith("python3 (612): channel 0x0000000a, intr 00000000. MMU Fault")
    assert first.labels["gpu"] == "GPU-671333f5-4a3b-a6d1-a82a-214bc8e82c83"
    assert len({first.starts_at, second.starts_at, third.starts_at}) == 3
