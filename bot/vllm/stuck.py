"""Why a replica does not come up, as its pod tells it: no node takes it, or its container cannot run."""

from bot.ports import Pod

# Reasons of a waiting container that no patience mends. ContainerCreating and PodInitializing do pass.
_HOPELESS = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)


ENDED = ("Succeeded", "Failed")


def living(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Those that serve, or may still: not the ones being deleted, nor evicted pods that stay behind as Failed."""
    return tuple(p for p in pods if p.deleted_at is None and p.phase not in ENDED)


def stuck_because(pod: Pod) -> str | None:
    """`chat-70b-x2k is Pending: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu.`; None: it may yet come."""
    if pod.node is None and pod.unschedulable is not None:
        return f"{pod.name} is Pending: {pod.unschedulable}"
    for container in pod.containers:
        state = container.state
        if state is not None and state.phase == "waiting" and state.reason in _HOPELESS:
            last = container.last_state
            exited = f" (last exit code {last.exit_code})" if last and last.exit_code is not None else ""
            words = f": {state.message}" if state.message else ""
            return f"{pod.name} is in {state.reason}{exited}{words}"
    return None


def first_stuck(pods: tuple[Pod, ...]) -> str | None:
    """One is named, and how many more stand still like it."""
    reasons = [why for pod in sorted(pods, key=lambda p: p.name) if (why := stuck_because(pod))]
    if not reasons:
        return None
    return reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
