"""The composition root of the GPU node agent: the second of the two processes. It reads, and changes nothing.

On every GPU node: NVML's readings on request, Xids as they happen from NVML and the kernel's log, kept in a file; and
whose each GPU is. The bot asks it over HTTP with a token.
"""

import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from bot import logs
from bot.gpu_readings import EventPage, Gpu, GpuNode, Holder, Watching, pci_key
from bot.inbound.agent_api import AgentApi
from bot.inbound.agent_metrics import registry
from bot.inbound.server import HttpServer, new_api
from bot.outbound.gpu_history import GpuHistory, Sighting, boot_id, booted_at
from bot.outbound.gpu_holders import KubeletPods, holder_of_process
from bot.outbound.kernel_log import KernelLine, KernelLog
from bot.outbound.nvml import GpuReader
from bot.outbound.nvml_node import NvmlNode
from bot.settings import AgentSettings
from bot.vllm.xid_lines import UuidLine, parsed
from bot.vllm.xids import recovery_actions

_log = structlog.get_logger(__name__)


class Agent:
    """`start` returns when it answers; Xids of before are in its history by then. `nvml` is for unit tests."""

    def __init__(self, settings: AgentSettings, *, nvml: Any = None) -> None:
        self._settings = settings
        self._started_at = datetime.now(UTC)
        self._history = GpuHistory(settings.history, boot_id=boot_id(), limit=settings.history_limit)
        self._pods = KubeletPods(settings.pod_resources)
        self._nvml = NvmlNode(
            nvml,
            on_event=self._nvml_event,
            holder_of=holder_of_process,
            patience_seconds=settings.patience_seconds,
        )
        self._kernel_log = KernelLog(self._kernel_line, after_usec=self._history.kernel_usec, kmsg=settings.kmsg)
        self._uuids: dict[str, str] = {}  # PCI address -> UUID, as the kernel's log told
        api = new_api()
        AgentApi(
            token=settings.token,
            snapshot=self.snapshot,
            events=self._history.after,
            metrics=registry(self.snapshot, lambda: self._history.after(0).events),
        ).add_to(api)
        self._server = HttpServer(api, host=settings.host, port=settings.port)

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> None:
        if not self._settings.token:
            _log.error("VLLM_ONCALL_AGENT__TOKEN is not set: every question is refused until it is")
        recovery_actions()  # read from a file: the first sweep has no time for it
        self._pods.start()
        self._nvml.start()
        first = self._nvml.sweep()  # the GPUs' names, before the kernel's log speaks of their addresses
        self._kernel_log.start()
        self._server.start()
        _log.info("ready", port=self.port, gpus=len(first.gpus), problem=first.problem, driver=first.driver)

    def stop(self) -> None:
        self._server.stop()
        self._kernel_log.stop()
        self._pods.stop()
        self._nvml.stop()

    def snapshot(self) -> GpuNode:
        sweep = self._nvml.sweep()
        return GpuNode(
            node=self._settings.node,
            at=datetime.now(UTC),
            gpus=tuple(self._with_holders(gpu) for gpu in sweep.gpus),
            problem=sweep.problem,
            driver=sweep.driver,
            nvml=sweep.nvml,
            sweep_seconds=sweep.seconds,
            watching=self._watching(),
            booted_at=booted_at(),
            holders_by="kubelet" if self._pods.known else "processes",
            holders_problem=self._pods.problem,
        )

    def events(self, after: int = 0) -> EventPage:
        return self._history.after(after)

    def _watching(self) -> Watching:
        log = self._kernel_log
        return Watching(
            since=log.since if log.followed_by and log.since else self._started_at,
            nvml=self._nvml.listening,
            kernel_log=log.followed_by,
            kernel_log_problem=log.problem,
            history_problem=self._history.problem,
        )

    # ------------------------------------------------------------------------------------------------ whose

    def _with_holders(self, gpu: Gpu) -> Gpu:
        by_kubelet = self._pods.of_gpu(gpu.uuid, gpu.index)
        by_process = tuple(dict.fromkeys(p.holder for p in gpu.processes or () if p.holder is not None))
        return replace(gpu, holders=by_kubelet or by_process)

    def _holders(self, uuid: str | None, pid: int | None) -> tuple[Holder, ...]:
        if (by_kubelet := self._pods.of_gpu(uuid)) or pid is None:
            return by_kubelet
        holder = holder_of_process(pid)
        return () if holder is None else (holder,)

    # ------------------------------------------------------------------------------------------------ what happens

    def _nvml_event(self, gpu: GpuReader, kind: str, data: int, mig_instance: str | None) -> None:
        known = gpu.known
        self._keep(
            Sighting(
                at=datetime.now(UTC),
                source="nvml",
                kind=kind,
                number=data if kind == "xid" else None,
                gpu_uuid=known.uuid,
                pci=None if known.pci is None else pci_key(known.pci),
                mig_instance=mig_instance,
                holders=self._holders(known.uuid, None),
            )
        )

    def _kernel_line(self, line: KernelLine) -> None:
        found = parsed(line.text)
        if isinstance(found, UuidLine):
            self._uuids[found.pci] = found.uuid
        if found is None or isinstance(found, UuidLine):
            return
        uuid = self._nvml.uuid_of(found.pci) or self._uuids.get(found.pci)
        self._keep(
            Sighting(
                at=line.at,
                source="kernel_log",
                kind=found.kind,
                number=found.number,
                gpu_uuid=uuid,
                pci=found.pci,
                message=found.message or None,
                pid=found.pid,
                process=found.process,
                mig_instance=found.mig_instance,
                # A process of long ago is gone, and its number may be another's now.
                holders=self._holders(uuid, found.pid) if line.live else (),
                live=line.live,
                kernel_usec=line.usec,
            )
        )

    def _keep(self, seen: Sighting) -> None:
        event = self._history.add(seen)
        if event.count == 1:
            _log.warning(
                "the driver reported", kind=event.kind, xid=event.xid, gpu=event.gpu_uuid or event.pci, by=seen.source
            )


def run(settings: AgentSettings) -> None:
    """Until SIGTERM."""
    logs.configure(settings.log_level)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    agent = Agent(settings)
    agent.start()
    stopped.wait()
    agent.stop()


if __name__ == "__main__":
    run(AgentSettings())
