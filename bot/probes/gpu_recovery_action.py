"""What does the driver itself ask for: nothing, a reset, a reboot? And does every GPU still answer?"""

from dataclasses import dataclass, replace

from bot.ports import SourceError, Sources
from bot.probes.gpus import Looked, Told, look, missing
from bot.probes.gpus import Params as Params
from bot.vllm.xids import RecoveryAction, XidClass, recovery_actions

READINGS = ("recovery_action",)


@dataclass(frozen=True, slots=True)
class Reading:
    action: str | None = None  # the gravest of all GPUs: "none", "gpu_reset", "drain_and_reset", "node_reboot" …
    action_class: str | None = None  # "watch" (nothing to do now), "reset", "reboot"
    do: str | None = None
    gpus: int | None = None  # that were asked about
    gpus_lost: int | None = None  # fallen off the bus
    gpus_silent: int | None = None  # NVML does not answer for them
    gpus_in_need: int | None = None  # that ask for anything, must be reset, or are lost
    # Of the node, as Kubernetes counts them; only where one node was asked about. Of those that the device plugin
    # announces the allocatable ones are healthy.
    gpus_allocatable: int | None = None
    gpus_announced: int | None = None
    where: tuple[str, ...] | None = None  # the GPUs in need
    source: str | None = None
    matched_by: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    looked = look(params, sources, READINGS)
    counted = _counted(looked, sources)
    if not looked.told:
        return replace(counted, missing=missing(looked, READINGS))
    actions = [_action(one) for one in looked.told]
    known = [action for action in actions if action is not None]
    worst = max(known, key=lambda action: action.rank, default=None)
    if worst is not None and worst.name == "none" and len(known) < len(actions):
        worst = None  # the GPU that did not say may be the one
    in_need = [one for one, action in zip(looked.told, actions, strict=True) if _needs(one, action)]
    by_agent = all(one.source == "agent" for one in looked.told)
    return replace(
        counted,
        action=worst.name if worst else None,
        action_class=worst.class_.value if worst else None,
        do=worst.do if worst else None,
        gpus=len(looked.told),
        # An exporter leaves a lost GPU out; the agent tells it.
        gpus_lost=sum(one.gpu.state == "lost" for one in looked.told) if by_agent else None,
        gpus_silent=sum(one.gpu.state in ("silent", "unreadable") for one in looked.told) if by_agent else None,
        gpus_in_need=len(in_need) if in_need or len(known) == len(actions) else None,
        where=tuple(one.where for one in in_need),
        source=looked.source,
        matched_by=looked.matched_by,
        missing=missing(looked, READINGS),
    )


def _action(one: Told) -> RecoveryAction | None:
    name = one.gpu.recovery_action
    if name is None and one.gpu.state == "reset_required":
        name = "gpu_reset"
    if name is None or name in recovery_actions():
        return recovery_actions().get(name or "")
    # Only a newer driver knows it. It asks for something, so it is more than nothing.
    rank = len(recovery_actions())
    return RecoveryAction(name, -1, rank, XidClass.RESET, "The bot does not know this one. Read the kernel's log.")


def _needs(one: Told, action: RecoveryAction | None) -> bool:
    return one.gpu.state == "lost" or (action is not None and action.name != "none")


def _counted(looked: Looked, sources: Sources) -> Reading:
    if len(looked.scope.nodes) != 1 or looked.scope.pods is not None or not sources.live:
        return Reading()
    try:
        node = sources.cluster.node(looked.scope.nodes[0])
    except SourceError:
        return Reading()
    return Reading() if node is None else Reading(gpus_allocatable=node.gpus, gpus_announced=node.gpu_capacity)
