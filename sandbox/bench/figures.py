"""Medians and percentiles of few values, and what other programs leave of the machine."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

_IDLE_RATIO = 0.85


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def idle_ratio(seconds: float = 1.0) -> float:
    """Of all cores together, over the next moments."""
    before = _times()
    time.sleep(seconds)
    after = _times()
    passed = [b - a for a, b in zip(before, after, strict=True)]
    return (passed[3] + passed[4]) / max(1, sum(passed))


def wait_calm(seconds: float) -> float:
    """Until other programs leave the machine to us, or the time is over; returns the share that is idle."""
    deadline = time.monotonic() + seconds
    while (idle := idle_ratio()) < _IDLE_RATIO and time.monotonic() < deadline:
        pass
    return idle


def machine() -> str:
    bytes_of_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{os.cpu_count()} cores, {bytes_of_memory / 2**30:.0f} GiB of memory"


def _times() -> list[int]:
    """user nice system idle iowait irq softirq steal"""
    return [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
