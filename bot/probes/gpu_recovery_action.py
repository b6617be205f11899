"""What does the driver itself ask for: nothing, a reset, a reboot? And does every GPU still answer?"""

from dataclasses import dataclass

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
    gpus_allocatable: int | None = None  # of the node, as Kubernetes counts them; only where one node was asked about
    where: tuple[str, ...] | None = None  # the GPUs in need
    source: str | None = None
    matched_by: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    looked = look(params, sources, READINGS)
    if not looked.told:
        return Reading(missing=missing(looked, READINGS), gpus_allocatable=_allocatable(looked, sources))
    actions = [_action(one) for one in looked.told]
    known = [action for action in actions if action is not None]
    worst = max(known, key=lambda action: action.rank, default=None)
    if worst is not None and worst.name == "none" and len(known) < len(actions):
        worst = None  # the GPU that did not say may be the one
    in_need = [one for one, action in zip(looked.told, actions, strict=True) if _needs(one, action)]
    by_agent = all(one.source == "agent" for one in looked.told)
    return Reading(
        action=worst.name if worst else None,
        action_class=worst.class_.value if worst else None,
        do=worst.do if worst else None,
        gpus=len(looked.told),
        # An exporter leaves a lost GPU out; the agent tells it.
        gpus_lost=sum(one.gpu.state == "lost" for one in looked.told) if by_agent else None,
        gpus_silent=sum(one.gpu.state in ("silent", "unreadable") for one in looked.told) if by_agent else None,
        gpus_in_need=len(in_need) if in_need or len(known) == len(actions) else None,
        gpus_allocatable=_allocatable(looked, sources),
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


def _allocatable(looked: Looked, sources: Sources) -> int | None:
    if len(looked.scope.nodes) != 1 or looked.scope.pods is not None or not sources.live:
        return None
    try:
        node = sources.cluster.node(looked.scope.nodes[0])
    except SourceError:
        return None
    return None if node is None else node.gpus
