"""The driver's lines in the kernel's log, in every form it has been seen to write them."""

import re
from dataclasses import dataclass

from bot.gpu_readings import pci_key

_ADDRESS = r"(?:PCI:)?(?P<pci>[0-9a-fA-F]+(?::[0-9a-fA-F]+){1,2}(?:\.[0-9a-fA-F])?)"
# NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 94, pid=7194, name=python3, Contained: …
_XID = re.compile(
    rf"NVRM: Xid \({_ADDRESS}(?:\s+GPU-I:(?P<gi>\d+))?(?:\s+GPU-CI:(?P<ci>\d+))?\):"
    r"\s*(?P<xid>\d+)(?:,\s*(?P<rest>.*))?$"
)
_PID = re.compile(r"pid='?(?P<pid>[^,']*)'?(?:,\s*|$)")
_NAME = re.compile(r"name='?(?P<name>[^,']*)'?(?:,\s*|$)")
# Newer drivers write this one without a number.
_FELL_OFF = re.compile(r"NVRM: GPU (?P<pci>[0-9a-fA-F:]+\.[0-9a-fA-F]): GPU has fallen off the bus")
_NVSWITCH = re.compile(rf"(?P<switch>nvidia-nvswitch\d+): SXid \({_ADDRESS}\):\s*(?P<sxid>\d+),\s*(?P<rest>.*)$")
# Before a GPU's first Xid the driver says which one it is.
_UUID = re.compile(r"NVRM: GPU at (?:PCI:)?(?P<pci>[0-9a-fA-F:]+): (?P<uuid>GPU-[0-9a-f-]+)")


@dataclass(frozen=True, slots=True)
class XidLine:
    """`kind` is "xid", or "sxid" for an NVSwitch's, whose `pci` is the switch's."""

    kind: str
    number: int
    pci: str  # domain:bus:device
    message: str  # what follows the number, process and name
    pid: int | None = None
    process: str | None = None
    mig_instance: str | None = None  # "5" or "5/0": GPU instance, compute instance


@dataclass(frozen=True, slots=True)
class UuidLine:
    pci: str
    uuid: str


def parsed(line: str) -> XidLine | UuidLine | None:
    """None: the line is about something else."""
    if (match := _XID.search(line)) is not None:
        return _xid(match)
    if (match := _FELL_OFF.search(line)) is not None:
        return XidLine("xid", 79, pci_key(match["pci"]), "GPU has fallen off the bus.")
    if (match := _NVSWITCH.search(line)) is not None:
        return XidLine("sxid", int(match["sxid"]), pci_key(match["pci"]), f"{match['switch']}: {match['rest'].strip()}")
    if (match := _UUID.search(line)) is not None:
        return UuidLine(pci_key(match["pci"]), match["uuid"])
    return None


def _xid(match: re.Match[str]) -> XidLine:
    rest = (match["rest"] or "").strip()
    pid, rest = _taken(_PID, "pid", rest)
    name, rest = _taken(_NAME, "name", rest)
    instance = "/".join(part.lstrip("0") or "0" for part in (match["gi"], match["ci"]) if part)
    return XidLine(
        kind="xid",
        number=int(match["xid"]),
        pci=pci_key(match["pci"]),
        message=rest,
        pid=int(pid) if pid and pid.isdecimal() and int(pid) else None,
        process=name if name and name != "<unknown>" else None,
        mig_instance=instance or None,
    )


def _taken(pattern: re.Pattern[str], group: str, rest: str) -> tuple[str | None, str]:
    match = pattern.match(rest)
    return (match[group], rest[match.end() :]) if match else (None, rest)
