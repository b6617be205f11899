"""One round: the runbook's questions side by side, the signal beside them, and the verdict over what came back."""

import contextvars
import dataclasses
import enum
import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bot.fleet import NAME
from bot.incidents import signal as signals
from bot.incidents.incident import Incident, Round, SignalReading, Target
from bot.incidents.judge import Finding, Observation, judge
from bot.incidents.once import asked_once
from bot.incidents.past import as_of
from bot.incidents.recorder import Recorder
from bot.ports import SourceError, Sources
from bot.probes.finder import probe
from bot.probes.served import selector_of
from bot.runbook.schema import Runbook, Signal, Step
from bot.runbook.words import filled, names_in
from bot.vllm.redaction import redact

log = logging.getLogger(__name__)

# The signal has no deadline in the file; adapters have theirs, and a round does not wait for ever.
SIGNAL_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    signal: SignalReading | None
    observations: tuple[Observation, ...]
    findings: tuple[Finding, ...]


def diagnose(
    runbook: Runbook,
    target: Target,
    began: datetime,
    sources: Sources,
    pool: Executor,
    *,
    alert_names: Sequence[str] = (),
) -> Diagnosis:
    """`pool` is bounded and shared by all rounds. A step without an answer by its deadline is an error, and the round
    goes on: a thread cannot be stopped, but every adapter has its own deadline, so it ends by itself."""
    sources = asked_once(sources)
    words = Words(target, began, sources)
    begun = time.monotonic()
    about = runbook.signal_for(alert_names)
    # A pool's threads inherit nothing, and the log's incident id is wanted there, too.
    signal = pool.submit(contextvars.copy_context().run, _signal, about, words, sources)
    asked = [(s, pool.submit(contextvars.copy_context().run, _observe, s, words, sources)) for s in runbook.steps]
    observations = tuple(_awaited(step, future, begun) for step, future in asked)
    findings = judge(runbook, observations, words.simple)
    return Diagnosis(_signal_awaited(about, words, signal, begun), observations, findings)


class Diagnoser:
    """Implements `rounds.Diagnose` and `graph.History`: finds the runbook, and the world as of the round's time."""

    def __init__(
        self,
        runbooks: Mapping[str, Runbook],
        sources: Callable[[datetime], Sources],
        pool: Executor,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._runbooks = runbooks
        self._sources = sources
        self._pool = pool
        self._clock = clock

    def __call__(self, incident: Incident, round: Round) -> Round:
        started = self._clock()
        runbook = self._runbooks.get(round.runbook)
        if runbook is None:
            known = ", ".join(sorted(self._runbooks)) or "none"
            error = f"there is no runbook {round.runbook!r} any more; there is {known}"
            return replace(round, started_at=started, ended_at=started, error=error)
        sources, names = self._world(round, started), incident.alert_names
        found = diagnose(runbook, incident.target, incident.began_at, sources, self._pool, alert_names=names)
        return replace(
            round,
            started_at=started,
            ended_at=self._clock(),
            signal=found.signal,
            observations=found.observations,
            findings=found.findings,
            error=None,
        )

    def signal_now(self, incident: Incident, sources: Sources) -> SignalReading | None:
        """The incident's triggering signal, beside any round. None if its runbook names none."""
        signal = self._about(incident.runbook, incident)
        return _signal(signal, Words(incident.target, incident.began_at, sources), sources)

    def history(
        self, incident: Incident, round: Round, start: datetime, end: datetime, step_seconds: float
    ) -> Sequence[tuple[datetime, float]]:
        """The round's signal over time. Raises SourceError."""
        signal = self._about(round.runbook, incident)
        if signal is None:
            return ()
        sources = self._world(round, self._clock())
        words = Words(incident.target, incident.began_at, sources)
        given = signals.words_for(signal, words.for_names(names_in(signal.query)))
        return signals.history(signal, given, sources.metrics, start, end, step_seconds)

    def _about(self, runbook: str | None, incident: Incident) -> Signal | None:
        found = self._runbooks.get(runbook or "")
        return found.signal_for(incident.alert_names) if found is not None else None

    def _world(self, round: Round, now: datetime) -> Sources:
        sources = self._sources(now)
        return sources if round.as_of is None else as_of(round.as_of, sources)


class Words:
    """What `$service` … stand for in this incident. They come from the resolved target, never from raw labels."""

    def __init__(self, target: Target, began: datetime, sources: Sources) -> None:
        self._sources = sources
        self._service = sources.fleet.service(target.service) if target.service is not None else None
        workload = target.workload or (self._service.workloads[0] if self._service is not None else None)
        self.unresolved = target.unresolved
        self.simple: dict[str, Any] = {
            "service": self._service.name if self._service is not None else None,
            "kind": workload.kind.lower() if workload is not None else None,  # as kubectl takes it
            "workload": workload.name if workload is not None else None,
            "namespace": _safe(target.namespace) or (workload.namespace if workload is not None else None),
            "pod": _safe(target.pod),
            "node": _safe(target.node),
            "place": _place(_safe(target.node), self._service.name if self._service is not None else None),
            "window": sources.window,
            "began": min(began, sources.now).isoformat(),
        }
        promises = self._service.slo.model_dump() if self._service is not None else {}
        self.simple |= {f"slo.{name}": value for name, value in promises.items()}

    def for_names(self, names: Sequence[str]) -> Mapping[str, Any]:
        """The selector is looked up only where it is named: that takes a question to the API server."""
        if "selector" not in names or self._service is None:
            return self.simple
        return {**self.simple, "selector": selector_of(self._sources, self._service)}

    def lacking(self, names: Sequence[str]) -> str:
        """Why a step cannot be asked, in words."""
        why = f" ({self.unresolved})" if self.unresolved else ""
        return f"not asked: it needs {' and '.join('a ' + name for name in names)}, and this alert names none{why}"


def _place(node: str | None, service: str | None) -> str | None:
    """For sentences: what was looked at by `with: {node: $node}`, `otherwise: {service: $service}`."""
    return node or (f"the nodes of {service}" if service is not None else None)


def _safe(name: str | None) -> str | None:
    """Kubernetes names go into API paths and PromQL; anything else stays out."""
    return name if name is not None and re.fullmatch(NAME, name) else None


# ---------------------------------------------------------------------------------------------- one step


def _observe(step: Step, words: Words, sources: Sources) -> Observation:
    """Without secrets, whatever probe told them: it is stored, and leaves for Slack."""
    recorder = Recorder(sources.metrics)
    begun = time.monotonic()
    reading, error = _asked(step, words, replace(sources, metrics=recorder))
    excerpt = reading.pop("log_excerpt", None) if reading is not None else None
    return Observation(
        step=step.id,
        probe=step.probe,
        ask=step.ask or _first_line(step.probe),
        reading=reading,
        error=None if error is None else redact(error),
        seconds=time.monotonic() - begun,
        queries=recorder.queries,
        log_excerpt=excerpt,
    )


def _asked(step: Step, words: Words, sources: Sources) -> tuple[dict[str, Any] | None, str | None]:
    try:
        found = filled(step.with_, words.for_names(names_in(step.with_)))
        if found.unknown and step.otherwise is not None:
            found = filled(step.otherwise, words.for_names(names_in(step.otherwise)))
        if found.unknown:
            return None, words.lacking(found.unknown)
        module = probe(step.probe)
        return _plain(module.observe(module.Params.model_validate(found.value), sources)), None
    except SourceError as error:
        return None, str(error)
    except Exception as error:
        # Around a step: one broken probe must not take the other answers away.
        log.exception("probe %s failed in step %s", step.probe, step.id)
        return None, f"internal error in probe {step.probe}: {type(error).__name__}: {error} (the log has more)"


def _awaited(step: Step, future: Future[Observation], begun: float) -> Observation:
    left = begun + step.timeout_seconds - time.monotonic()
    try:
        return future.result(timeout=max(0.0, left))
    except LateError:
        never_began = future.cancel()
        why = "found no free thread" if never_began else "did not answer"
        error = f"{why} within {step.timeout_seconds:g} s"
        return Observation(step.id, step.probe, step.ask or _first_line(step.probe), None, error, step.timeout_seconds)


def _first_line(name: str) -> str:
    """A probe's docstring opens with the question that it answers."""
    try:
        text = getattr(probe(name), "__doc__", None) or name
    except LookupError:
        return name
    return str(text).partition("\n")[0]


def _plain(reading: Any) -> dict[str, Any]:
    """A Reading as JSON holds it. NaN and infinity are no answers."""
    return {field.name: _value(getattr(reading, field.name)) for field in dataclasses.fields(reading)}


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _value(item) for key, item in value.items()}
    return _plain(value) if dataclasses.is_dataclass(value) else value


# ---------------------------------------------------------------------------------------------- the signal


def _signal(signal: Signal | None, words: Words, sources: Sources) -> SignalReading | None:
    if signal is None:
        return None
    names = names_in([signal.query, signal.traffic or ""])
    return signals.read(signal, signals.words_for(signal, words.for_names(names)), sources)


def _signal_awaited(
    signal: Signal | None, words: Words, future: Future[SignalReading | None], begun: float
) -> SignalReading | None:
    try:
        return future.result(timeout=max(0.0, begun + SIGNAL_TIMEOUT_SECONDS - time.monotonic()))
    except LateError:
        future.cancel()
        if signal is None:
            return None
        error = f"did not answer within {SIGNAL_TIMEOUT_SECONDS:g} s"
        threshold = signals.threshold_of(signal, words.simple)
        return SignalReading(signal.name, signal.unit, threshold, signal.direction, None, error=error)
