"""What the driver reported about the node's GPUs, kept over restarts of the agent: a bounded file, written through.

NVML and the kernel's log tell of the same Xid within milliseconds, and a burst repeats one many times: each is one
event here, with a count.
"""

import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import TypeAdapter, ValidationError

from bot.gpu_readings import EventPage, GpuEvent, Holder

_log = structlog.get_logger(__name__)

BURST = timedelta(seconds=10)  # lines of one program about one Xid, since the last of them
# NVML names no program. It tells about 20 ms after the line is written; syslog(2) is read four times a second.
JOIN = timedelta(seconds=3)
_UPDATE_PAUSE = timedelta(seconds=1)  # counts of a burst reach the disk at this pace
_EVENT = TypeAdapter(GpuEvent)

Source = Literal["nvml", "kernel_log"]


@dataclass(frozen=True, slots=True)
class Sighting:
    at: datetime
    source: Source
    kind: str
    number: int | None = None  # the Xid
    gpu_uuid: str | None = None
    pci: str | None = None
    message: str | None = None
    pid: int | None = None
    process: str | None = None
    mig_instance: str | None = None
    holders: tuple[Holder, ...] = ()
    live: bool = True
    kernel_usec: int | None = None  # since boot, as the kernel's log stamps it


@dataclass
class _Kept:
    event: GpuEvent
    counts: dict[str, int] = field(default_factory=dict)
    written_at: datetime | None = None


class GpuHistory:
    """Thread-safe. `path` None: kept in memory only."""

    def __init__(self, path: Path | None, *, boot_id: str, limit: int = 1000) -> None:
        self._path = path
        self._boot_id = boot_id
        self._limit = limit
        self._changed = threading.Condition()
        self._kept: deque[_Kept] = deque(maxlen=limit)
        self._ring = uuid.uuid4().hex[:12]
        self._last_seq = 0
        self._kernel_usec: int | None = None
        self._lines = 0
        self.problem: str | None = None if path else "no file for them is configured"
        with self._changed:
            self._load()

    @property
    def kernel_usec(self) -> int | None:
        """The stamp of the newest line of this boot's kernel log that is kept here; what came before it is, too."""
        return self._kernel_usec

    def add(self, seen: Sighting) -> GpuEvent:
        with self._changed:
            kept = self._same(seen)
            new = kept is None
            if kept is None:
                kept = self._new(seen)
            else:
                self._merge(kept, seen)
            if seen.kernel_usec is not None:
                self._kernel_usec = max(seen.kernel_usec, self._kernel_usec or 0)
            # On the disk before anybody is told: a reader that knows a number must never meet another event under it.
            self._write(kept, seen, through=new)
            if new:
                self._kept.append(kept)
                self._last_seq = kept.event.seq
                self._changed.notify_all()
            return kept.event

    def after(self, seq: int, *, ring: str | None = None, wait_seconds: float = 0) -> EventPage:
        """Newer events than `seq`; waits for the first of them. A `seq` of another ring means nothing here: all."""
        with self._changed:
            since = seq if ring in (None, self._ring) else 0
            self._changed.wait_for(lambda: self._last_seq > since, wait_seconds)
            events = tuple(kept.event for kept in self._kept if kept.event.seq > since)
            return EventPage(self._ring, self._last_seq, events)

    # ------------------------------------------------------------------------------------------------ one event

    def _same(self, seen: Sighting) -> _Kept | None:
        """The event of which this is one more sighting."""
        near = [
            kept
            for kept in reversed(self._kept)
            if _alike(kept.event, seen)
            and abs(seen.at - kept.event.last_at) <= (JOIN if seen.source == "nvml" else BURST)
        ]
        if seen.source == "kernel_log":
            untold = (k for k in near if not k.counts.get("kernel_log") and abs(seen.at - k.event.last_at) <= JOIN)
            return next((k for k in near if k.event.pid == seen.pid and k.counts.get("kernel_log")), next(untold, None))
        # The line of this very Xid, if it came first.
        behind = (k for k in near if k.counts.get("nvml", 0) < k.counts.get("kernel_log", 0))
        return next(behind, near[0] if near else None)

    def _new(self, seen: Sighting) -> _Kept:
        seq = self._last_seq + 1
        event = GpuEvent(
            id=f"{self._ring}-{seq}",
            seq=seq,
            at=seen.at,
            last_at=seen.at,
            kind=seen.kind,
            xid=seen.number,
            gpu_uuid=seen.gpu_uuid,
            pci=seen.pci,
            message=seen.message,
            pid=seen.pid,
            process=seen.process,
            mig_instance=seen.mig_instance,
            seen_by=(seen.source,),
            holders=seen.holders,
            live=seen.live,
        )
        return _Kept(event, {seen.source: 1})

    def _merge(self, kept: _Kept, seen: Sighting) -> None:
        kept.counts[seen.source] = kept.counts.get(seen.source, 0) + 1
        event = kept.event
        kept.event = replace(
            event,
            last_at=max(event.last_at, seen.at),
            count=max(kept.counts.values()),
            gpu_uuid=event.gpu_uuid or seen.gpu_uuid,
            pci=event.pci or seen.pci,
            message=event.message or seen.message,
            pid=event.pid or seen.pid,
            process=event.process or seen.process,
            mig_instance=event.mig_instance or seen.mig_instance,
            holders=event.holders or seen.holders,
            seen_by=tuple(sorted(kept.counts)),
        )

    # ------------------------------------------------------------------------------------------------ the file

    def _write(self, kept: _Kept, seen: Sighting, *, through: bool) -> None:
        pause_over = kept.written_at is None or seen.at - kept.written_at >= _UPDATE_PAUSE
        if self._path is None or not (through or pause_over):
            return
        kept.written_at = seen.at
        try:
            if self._lines == 0 or self._lines > 4 * self._limit:
                self._rewrite([*self._kept, kept] if through else self._kept)
            else:
                with self._path.open("a") as file:
                    file.write(self._line(kept))
                    file.flush()
                    if through:
                        os.fsync(file.fileno())
                self._lines += 1
            self.problem = None
        except OSError as error:
            self._could_not("written", error)

    def _rewrite(self, kept: Sequence[_Kept]) -> None:
        assert self._path is not None
        beside = self._path.with_suffix(".new")
        with beside.open("w") as file:
            file.write(json.dumps({"ring": self._ring}) + "\n")
            file.writelines(self._line(one) for one in kept)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._lines = len(kept) + 1

    def _line(self, kept: _Kept) -> str:
        written = {
            "event": _EVENT.dump_python(kept.event, mode="json"),
            "counts": kept.counts,
            "boot": self._boot_id,
            "kernel_usec": self._kernel_usec,
        }
        return json.dumps(written, ensure_ascii=False, separators=(",", ":")) + "\n"

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines = self._path.read_text(errors="replace").splitlines() if self._path.exists() else []
        except OSError as error:
            self._could_not("read", error)
            return
        found: dict[str, _Kept] = {}
        for line in lines:
            self._take(line, found)
        newest = sorted(found.values(), key=lambda kept: kept.event.seq)
        self._kept.extend(newest)
        self._last_seq = newest[-1].event.seq if newest else 0
        # A torn last line must not swallow the next one: the first write makes the file anew.
        self._lines = 0

    def _take(self, line: str, found: dict[str, _Kept]) -> None:
        try:
            told: dict[str, Any] = json.loads(line)
            if "ring" in told:
                self._ring = str(told["ring"])
                return
            event = _EVENT.validate_python(told["event"])
        except (ValueError, KeyError, TypeError, ValidationError):
            _log.warning("a line of the GPU history could not be read", line=line[:200])
            return
        found[event.id] = _Kept(event, dict(told.get("counts") or {}), event.last_at)
        if told.get("boot") == self._boot_id and told.get("kernel_usec") is not None:
            self._kernel_usec = max(int(told["kernel_usec"]), self._kernel_usec or 0)

    def _could_not(self, what: str, error: OSError) -> None:
        self.problem = f"{self._path} cannot be {what} ({error.strerror or error}); events do not survive a restart"
        _log.error("the GPU history is kept in memory only", why=self.problem)


def _alike(event: GpuEvent, seen: Sighting) -> bool:
    if (event.kind, event.xid, event.live) != (seen.kind, seen.number, seen.live):
        return False
    if event.mig_instance and seen.mig_instance and event.mig_instance != seen.mig_instance:
        return False
    if event.gpu_uuid and seen.gpu_uuid:
        return event.gpu_uuid == seen.gpu_uuid
    return event.pci is not None and event.pci == seen.pci


def booted_at() -> datetime:
    """Of the node: a container has its clock."""
    return datetime.now(UTC) - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """Tells this boot of the node from every other; stamps of the kernel's log begin anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
