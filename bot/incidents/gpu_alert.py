"""What the driver reported, as the alert that triage knows what to do with: it says node, pod and GPU in labels."""

import hashlib
from datetime import datetime

from bot.gpu_readings import GpuEvent
from bot.incidents.alert import Alert, AlertStatus
from bot.vllm.xids import Seen, XidClass, resolve, xid

XID_ALERT = "GpuXid"
EVENT_ALERT = "GpuEvent"  # what has no Xid: a lost GPU, an NVSwitch's error

# What is at stake before anything is diagnosed; the round then looks closer.
_SEVERITIES = {
    XidClass.WATCH: "info",
    XidClass.UNKNOWN: "warning",
    XidClass.APPLICATION: "warning",
    XidClass.COMPANIONS: "warning",
    XidClass.RESET: "critical",
    XidClass.REBOOT: "critical",
    XidClass.RMA: "critical",
}
_KINDS = {
    "gpu_lost": ("critical", "a GPU is lost"),
    "gpu_unavailable": ("critical", "a GPU is unavailable"),
    "double_bit_ecc": ("critical", "uncorrectable ECC error"),
    "row_remapping_failed": ("critical", "a row could not be remapped"),
    "fatal_poison": ("critical", "fatal memory poison"),
    "sxid": ("warning", "NVSwitch error"),
    "recovery_action": ("warning", "the driver asks for another recovery action"),
    "row_remapping": ("info", "a row will be remapped"),
    "poison": ("warning", "memory poison"),
}


def alert_of(node: str, event: GpuEvent, now: datetime) -> Alert:
    """The same event always makes the same alert, so that hearing it twice is hearing it once."""
    labels = {"node": node, "gpu": event.gpu_uuid or event.pci or "", "pci_bus_id": event.pci or ""}
    named = [holder for holder in event.holders if holder.pod is not None and holder.namespace is not None]
    if len(named) == 1:
        labels |= {"namespace": named[0].namespace or "", "pod": named[0].pod or ""}
    # Alone: its companions may still come, and the round then knows of them.
    resolution = resolve([Seen(event.xid, event.message)]) if event.kind == "xid" and event.xid is not None else None
    if resolution is not None and event.xid is not None:
        labels |= {"alertname": XID_ALERT, "xid": str(event.xid), "xid_class": resolution.class_.value}
        labels["severity"] = _SEVERITIES[resolution.class_]
        summary = f"Xid {event.xid} on {node}: {xid(event.xid).name}"
    else:
        severity, what = _KINDS.get(event.kind, ("warning", event.kind.replace("_", " ")))
        labels |= {"alertname": EVENT_ALERT, "event": event.kind, "severity": severity}
        summary = f"{what} on {node}"
    annotations = {"summary": summary, "do": resolution.do if resolution else "", "description": _described(event)}
    return Alert(
        fingerprint=hashlib.sha256(f"{node}/{event.id}".encode()).hexdigest()[:16],
        status=AlertStatus.FIRING,
        labels={name: value for name, value in labels.items() if value},
        annotations={name: text for name, text in annotations.items() if text},
        starts_at=event.at.isoformat(),
        ends_at=event.at.isoformat(),  # a moment
        generator_url="",
        received_at=now,
    )


def _described(event: GpuEvent) -> str:
    who = f"{event.process or 'process'} ({event.pid}): " if event.pid is not None else ""
    return f"{who}{event.message or ''}".strip()
