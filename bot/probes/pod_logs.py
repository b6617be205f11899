"""What do the replicas' logs say: of the run that crashed, of the start that does not end, of those that serve?

Each kind of line is a field, true, false or not known: it is false only where all logs that matter were read.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bot.ports import Container, Pod, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.naming import names
from bot.probes.served import pods_of, service_of
from bot.vllm.arguments import serving_container
from bot.vllm.log_signatures import OUT_OF_MEMORY, Family, LogReading, Match, Phase, excerpt, read

# Of a replica that came up and serves, lines about its start are past; these are not.
_WHILE_SERVING = {
    Family.GPU_FAULTED,
    Family.COMMUNICATION_FAILED,
    Family.NUMBERS_BROKEN,
    Family.CHAT_TEMPLATE_MISSING,
    Family.ENGINE_STALLED,
    Family.BROADCAST_WAITS,
}


# A pod that is ready has them, whatever it lacked an hour ago.
_NEEDED_TO_START = {Family.NO_GPU, Family.MODEL_NOT_AVAILABLE, Family.DISK_FULL, Family.START_TIMED_OUT}


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    tail: Annotated[int, Field(ge=10, le=5000)] = 1000  # lines of each log
    max_logs: Annotated[int, Field(ge=1, le=16)] = 6
    within_seconds: Annotated[float, Field(gt=0)] = 3600  # how long ago a crash may be


@dataclass(frozen=True, slots=True)
class Reading:
    logs: str | None = None  # "chat-1 (the run that ended), chat-2"
    cause: str | None = None  # what the most telling line means
    remedy: str | None = None
    line: str | None = None  # without secrets
    pod: str | None = None
    starting_pod: str | None = None  # one that is not ready yet
    startup_phase: str | None = None  # how far it has come: "loading weights"
    startup_percent: int | None = None  # of the weights
    refused_argument: str | None = None  # "--disable-log-requests"
    fitting_max_model_len: int | None = None  # what vLLM says would fit
    kv_cache_too_small: bool | None = None  # at the start: raise gpu_memory_utilization
    weights_too_large: bool | None = None
    gpu_memory_taken: bool | None = None  # by somebody else
    gpu_oom_warming_up: bool | None = None
    gpu_oom_serving: bool | None = None  # lower gpu_memory_utilization
    gpu_faulted: bool | None = None
    communication_failed: bool | None = None  # NCCL
    no_gpu: bool | None = None
    arguments_refused: bool | None = None
    model_not_available: bool | None = None
    disk_full: bool | None = None
    interrupted_while_loading: bool | None = None
    start_timed_out: bool | None = None
    numbers_broken: bool | None = None  # NaN
    chat_template_missing: bool | None = None
    engine_stalled: bool | None = None
    worker_killed: bool | None = None  # by signal 9
    worker_died: bool | None = None
    engine_died: bool | None = None
    broadcast_waits: bool | None = None  # harmless while it loads
    # Of each kind of line that is there: in which pod's log, what it means, and the line itself. `pod`, `cause` and
    # `line` above are of the most telling one, which may be another kind's.
    out_of_gpu_memory_pod: str | None = None  # of the five kinds about GPU memory
    out_of_gpu_memory_cause: str | None = None
    out_of_gpu_memory_line: str | None = None
    out_of_gpu_memory_remedy: str | None = None
    kv_cache_too_small_pod: str | None = None
    kv_cache_too_small_cause: str | None = None
    kv_cache_too_small_line: str | None = None
    weights_too_large_pod: str | None = None
    weights_too_large_cause: str | None = None
    weights_too_large_line: str | None = None
    gpu_memory_taken_pod: str | None = None
    gpu_memory_taken_cause: str | None = None
    gpu_memory_taken_line: str | None = None
    gpu_oom_warming_up_pod: str | None = None
    gpu_oom_warming_up_cause: str | None = None
    gpu_oom_warming_up_line: str | None = None
    gpu_oom_serving_pod: str | None = None
    gpu_oom_serving_cause: str | None = None
    gpu_oom_serving_line: str | None = None
    gpu_faulted_pod: str | None = None
    gpu_faulted_cause: str | None = None
    gpu_faulted_line: str | None = None
    gpu_faulted_node: str | None = None
    communication_failed_pod: str | None = None
    communication_failed_cause: str | None = None
    communication_failed_line: str | None = None
    communication_failed_node: str | None = None
    no_gpu_pod: str | None = None
    no_gpu_cause: str | None = None
    no_gpu_line: str | None = None
    arguments_refused_pod: str | None = None
    arguments_refused_cause: str | None = None
    arguments_refused_line: str | None = None
    model_not_available_pod: str | None = None
    model_not_available_cause: str | None = None
    model_not_available_line: str | None = None
    model_not_available_remedy: str | None = None
    disk_full_pod: str | None = None
    disk_full_cause: str | None = None
    disk_full_line: str | None = None
    numbers_broken_pod: str | None = None
    numbers_broken_cause: str | None = None
    numbers_broken_line: str | None = None
    worker_killed_pod: str | None = None
    worker_killed_cause: str | None = None
    worker_killed_line: str | None = None
    worker_died_pod: str | None = None
    worker_died_cause: str | None = None
    worker_died_line: str | None = None
    log_excerpt: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """A log worth reading. `weight`: the crashed before the starting before the serving."""

    pod: Pod
    container: Container
    previous: bool
    weight: int

    @property
    def exit_code(self) -> int | None:
        told = self.container.last_state if self.previous else self.container.state
        return None if told is None else told.exit_code

    @property
    def words(self) -> str:
        return f"{self.pod.name} (the run that ended)" if self.previous else self.pod.name


@dataclass(frozen=True, slots=True)
class _Log:
    run: _Run
    text: str
    reading: LogReading

    @property
    def matches(self) -> tuple[Match, ...]:
        return tuple(match for match in self.reading.matches if self._matters(match))

    def _matters(self, match: Match) -> bool:
        family = match.signature.family
        if self._is_past(family):
            return False
        if match.overcome is None:
            return True
        # Of a run that has ended, one worker may have gone on while another failed.
        return self.run.weight == _CRASHED and not match.overcome.together

    def _is_past(self, family: Family) -> bool:
        if self.run.weight == _SERVING:
            return family not in _WHILE_SERVING
        return self.run.previous and self.run.pod.ready and family in _NEEDED_TO_START

    def has(self, family: Family) -> bool | None:
        if self._is_past(family):
            return False
        found = self.reading.has(family)
        if found is True:
            return any(match.signature.family is family for match in self.matches)
        if found is False and family is Family.ARGUMENTS_REFUSED and self.run.exit_code == _REFUSED:
            return None  # argparse ends so, and shells and Python without a script do
        if found is False and family is Family.ENGINE_DIED and self.run.exit_code == _CLEAN and not self.text.strip():
            return None  # an engine that dies and a process that is told to end both log it
        return found


_CRASHED, _STARTING, _SERVING = range(3)
_OUT_OF_GPU_MEMORY = "out_of_gpu_memory"
_OF_GPU_MEMORY = (Family.KV_CACHE_TOO_SMALL, Family.GPU_MEMORY_TAKEN, *OUT_OF_MEMORY)
# Whose words are fields, each with the families that they are about.
_TOLD = {
    _OUT_OF_GPU_MEMORY: _OF_GPU_MEMORY,
    **{
        family.value: (family,)
        for family in (
            *_OF_GPU_MEMORY,
            Family.GPU_FAULTED,
            Family.COMMUNICATION_FAILED,
            Family.NO_GPU,
            Family.ARGUMENTS_REFUSED,
            Family.MODEL_NOT_AVAILABLE,
            Family.DISK_FULL,
            Family.NUMBERS_BROKEN,
            Family.WORKER_KILLED,
            Family.WORKER_DIED,
        )
    },
}
_WITH_REMEDY = (_OUT_OF_GPU_MEMORY, Family.MODEL_NOT_AVAILABLE.value)
_WITH_NODE = (Family.GPU_FAULTED.value, Family.COMMUNICATION_FAILED.value)
_REFUSED = 2  # the exit code
_CLEAN = 0


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = pods_of(sources, service)
    runs = sorted((r for p in pods for r in _runs(p, params, sources)), key=lambda r: (r.weight, r.pod.name))
    if not runs:
        return Reading(missing="no replica has started, so there is no log")
    asked = [(run, Later(_asking(run, params, sources))) for run in runs[: params.max_logs]]
    logs, missing = list[_Log](), list[str]()
    unread = False
    for run, later in asked:
        try:
            text = later.get()
        except SourceError as error:
            missing.append(f"log of {run.words}: {error.why}")
            unread = unread or run.weight != _SERVING
            continue
        logs.append(_Log(run, text, read(text)))
    left_out = [run for run in runs[params.max_logs :] if run.weight != _SERVING]
    if left_out:
        missing.append(f"{len(left_out)} more logs were not read")
    return _told(logs, complete=not unread and not left_out, missing=missing)


def _runs(pod: Pod, params: Params, sources: Sources) -> Iterable[_Run]:
    container = serving_container(pod.containers)
    if container is None or container.state is None or pod.node is None:
        return
    state, last = container.state, container.last_state
    lately = last is not None and (last.at is None or (sources.now - last.at).total_seconds() <= params.within_seconds)
    if last is not None and (lately or state.reason == "CrashLoopBackOff"):
        yield _Run(pod, container, True, _CRASHED)
    if state.phase == "terminated":
        yield _Run(pod, container, False, _CRASHED)
    elif state.phase == "running":
        yield _Run(pod, container, False, _SERVING if pod.ready else _STARTING)


def _asking(run: _Run, params: Params, sources: Sources) -> Callable[[], str]:
    pod, container = run.pod, run.container.name
    return lambda: sources.cluster.pod_logs(pod.namespace, pod.name, container, tail=params.tail, previous=run.previous)


def _told(logs: Sequence[_Log], *, complete: bool, missing: Sequence[str]) -> Reading:
    telling = _most_telling(logs)
    starting = next((log for log in logs if log.run.weight == _STARTING), None)
    reached = starting.reading.reached if starting is not None else None
    unclear = {f.value for log in logs for f in log.reading.unclear}
    if any(log.run.exit_code == _REFUSED and log.has(Family.ARGUMENTS_REFUSED) is None for log in logs):
        missing = [*missing, "a run ended with exit code 2, and its log names no argument"]
    if any(log.has(Family.ENGINE_DIED) is None for log in logs):
        missing = [*missing, "a run ended with exit code 0, and its log is empty"]
    reasons = [
        *missing,
        *([f"a log is cut off before it tells the phase: {', '.join(sorted(unclear))}"] if unclear else []),
    ]
    families: dict[str, Any] = {family.value: _has(family, logs, complete=complete) for family in Family}
    told: dict[str, Any] = {name: value for of in _TOLD for name, value in _words(of, logs).items()}
    match = telling[1] if telling is not None else None
    shown = telling[0] if telling is not None else logs[0] if logs else None
    return Reading(
        **families,  # each family is a field, as a test makes sure
        **told,
        logs=names(log.run.words for log in logs),
        cause=match.signature.meaning if match is not None else None,
        remedy=match.signature.remedy if match is not None else None,
        line=match.line if match is not None else None,
        pod=telling[0].run.pod.name if telling is not None else None,
        starting_pod=starting.run.pod.name if starting is not None else None,
        startup_phase=reached.title if reached is not None and reached.phase is not Phase.SERVING else None,
        startup_percent=starting.reading.percent if starting is not None else None,
        refused_argument=_group(logs, "argument"),
        fitting_max_model_len=_number(_group(logs, "length", Family.KV_CACHE_TOO_SMALL)),
        log_excerpt=excerpt(shown.text, shown.matches) if shown is not None else None,
        missing="; ".join(reasons) or None,
    )


def _most_telling(logs: Sequence[_Log], among: Collection[Family] = tuple(Family)) -> tuple[_Log, Match] | None:
    """The most specific line of the logs that matter most."""
    for weight in (_CRASHED, _STARTING, _SERVING):
        mine = [log for log in logs if log.run.weight == weight]
        found = [(log, match) for log in mine for match in log.matches if match.signature.family in among]
        if found:
            order = list(Family)
            return min(found, key=lambda pair: order.index(pair[1].signature.family))
    return None


def _words(of: str, logs: Sequence[_Log]) -> dict[str, str]:
    telling = _most_telling(logs, _TOLD[of])
    if telling is None:
        return {}
    log, match = telling
    words = {
        f"{of}_pod": log.run.pod.name,
        f"{of}_cause": match.signature.meaning,
        f"{of}_line": match.line,
        f"{of}_remedy": match.signature.remedy if of in _WITH_REMEDY else None,
        f"{of}_node": log.run.pod.node if of in _WITH_NODE else None,
    }
    return {name: text for name, text in words.items() if text is not None}


def _has(family: Family, logs: Sequence[_Log], *, complete: bool) -> bool | None:
    found = [log.has(family) for log in logs]
    if any(found):
        return True
    return False if complete and logs and None not in found else None


def _group(logs: Sequence[_Log], name: str, family: Family | None = None) -> str | None:
    told = [m for log in logs for m in log.matches if name in m.told]
    return next((m.told[name] for m in told if family is None or m.signature.family is family), None)


def _number(text: str | None) -> int | None:
    return int(text.replace(",", "")) if text is not None else None
