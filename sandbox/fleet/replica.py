"""One pod's vLLM server: its engine while the container runs, what it answers, and what faults do to it. Pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sandbox.fleet.arguments import Arguments, arguments, number
from sandbox.fleet.capacity import CannotStart, Capacity, Gpu, capacity
from sandbox.fleet.contract import Effect, ModelProfile
from sandbox.fleet.engine import Engine, Request, State
from sandbox.fleet.measurements import EngineMeasurements, HttpMeasurements
from sandbox.fleet.pods import PodFacts

VERSION = "0.32.0"  # the one whose metrics are simulated; what an image's tag says goes before it on /version
DEFAULT_PORT = 8000
ProfileOf = Callable[[str], ModelProfile]  # by served model name


@dataclass(frozen=True)
class Key:
    """One run of one container. A restart is another run, and counts from zero."""

    uid: str
    restarts: int
    started_at: str | None


def key_of(facts: PodFacts) -> Key:
    return Key(facts.uid, facts.restarts, facts.started_at)


@dataclass(frozen=True)
class Process:
    """What runs while the server is up; a new one after it was dead."""

    engine: Engine
    measured: EngineMeasurements
    http: HttpMeasurements
    started_at: float


class Replica:
    def __init__(self, facts: PodFacts, gpu: Gpu, profile_of: ProfileOf, now: float) -> None:
        self.facts = facts
        self.arguments: Arguments = arguments(facts.command, facts.args, facts.env)
        self.model = self.arguments.get("served-model-name") or self.arguments.model or "unknown"
        self.effect = Effect()
        self.loaded = False
        self.refusal: str | None = None  # why vLLM would not start with these arguments
        self.capacity: Capacity | None = None
        self.process: Process | None = None
        self._ended: list[Request] = []
        try:
            self.capacity = capacity(self.arguments, gpu, profile_of(self.model))
        except CannotStart as error:
            self.refusal = str(error)
        self.update(facts, now)

    @property
    def key(self) -> Key:
        return key_of(self.facts)

    @property
    def port(self) -> int:
        text = self.arguments.get("port")
        return number(text) if text and text.isdecimal() else DEFAULT_PORT

    @property
    def version(self) -> str:
        match = re.search(r":v?(\d+\.\d+\.\d+)", self.facts.image)
        return match[1] if match else VERSION

    @property
    def takes_traffic(self) -> bool:
        """As the Service's endpoints have it: what Kubernetes believes, whether or not anybody listens."""
        return self.facts.ready and not self.facts.terminating

    @property
    def listens(self) -> bool:
        return self.process is not None

    @property
    def outstanding(self) -> int:
        return self.process.engine.outstanding if self.process else 0

    def update(self, facts: PodFacts, now: float) -> None:
        """What the API server says now about the same run of the container."""
        self.facts = facts
        self.loaded = facts.running and (self.loaded or facts.ready)
        self._settle(now)

    def apply(self, effects: Iterable[Effect], now: float) -> None:
        """The effects of all faults that match it now."""
        self.effect = combined(effects)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Bring the process in step with what Kubernetes and the faults say."""
        up = self.loaded and not self.facts.terminating and not self.effect.dead and self.capacity is not None
        if not up:
            self.stop(now)
            return
        assert self.capacity is not None
        if self.process is None:
            measured = EngineMeasurements(self.capacity.limits.max_model_len)
            engine = Engine(self.capacity.limits, self.capacity.cost, measured)
            self.process = Process(engine, measured, HttpMeasurements(), now)
        engine = self.process.engine
        engine.advance(now)
        engine.slowdown = self.effect.slowdown
        if self.effect.hung or self.effect.asleep:
            engine.pause(now)
        else:
            engine.resume(now)

    def stop(self, now: float) -> None:
        """End the process, if there is one; what was in it is lost."""
        if self.process is not None:
            self.process.engine.stop(now)
            self._collect(self.process, now)
            self.process = None

    def submit(self, request: Request, now: float) -> int:
        """The HTTP status it is answered with at once: 200 means that it is in the queue. Raises ConnectionRefused."""
        if self.process is None or self.capacity is None:
            raise ConnectionRefusedError
        limit = self.capacity.limits.max_model_len
        if request.prompt_tokens >= limit:
            status = 400
        else:
            request.output_tokens = min(request.output_tokens, limit - request.prompt_tokens)
            status = 200 if self.process.engine.submit(request, now) else 503
        if status != 200:
            self.process.http.answered(request.handler, "POST", status, 0.0, now, received=_size(request))
        return status

    def advance(self, now: float) -> list[Request]:
        """Play until `now`; the requests that have ended since the last time."""
        if self.process is not None:
            self.process.engine.advance(now)
            self._collect(self.process, now)
        ended, self._ended = self._ended, []
        return ended

    def _collect(self, process: Process, now: float) -> None:
        ended = process.engine.take_ended()
        for request in ended:
            # A stream that its client left was answered 200 when it began, and the middleware counts that.
            if request.state in (State.FINISHED, State.ABORTED) and request.ended_at is not None:
                seconds = request.ended_at - request.arrived_at
                process.http.answered(request.handler, "POST", 200, seconds, now, received=_size(request))
        self._ended += ended


def _size(request: Request) -> int:
    """Bytes of its JSON: some four a token, and what is around the prompt."""
    return 4 * request.prompt_tokens + 120


def combined(effects: Iterable[Effect]) -> Effect:
    """All of them at once: slowdowns multiply, the rest adds up."""
    total = Effect()
    for effect in effects:
        total = Effect(
            slowdown=total.slowdown * effect.slowdown,
            hung=total.hung or effect.hung,
            asleep=max(total.asleep, effect.asleep),
            dead=total.dead or effect.dead,
            hidden_metrics=(*total.hidden_metrics, *effect.hidden_metrics),
            renamed_metrics={**total.renamed_metrics, **effect.renamed_metrics},
        )
    return total
