"""A runbook as its author writes it: which alerts, which questions, which conclusions, which suggestions."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

WORD = r"^[a-z][a-z0-9_]*$"


class Severity(enum.Enum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("info", "warning", "critical").index(self.value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Word = Annotated[str, Field(pattern=WORD)]
LabelMatch = Mapping[str, str | tuple[str, ...]]


class Signal(_Strict):
    """What the incident is about, as one number: drives the top line, the graph and *helped*.

    query:     PromQL; `$selector` becomes the service's label matchers, `$window` the rate window
    threshold: a number, or `$slo.<field>` of the service
    direction: which side of the threshold is bad
    """

    name: str  # "TTFT P99"
    query: str
    unit: Literal["seconds", "ratio", "count", "celsius", "per_minute"]
    threshold: float | str
    direction: Literal["above", "below"] = "above"
    window_seconds: Annotated[float, Field(gt=0)] | None = None  # default: the setting
    traffic: str | None = None  # PromQL of the load; *helped* needs 80 % of the traffic of before


class AlertSignal(Signal):
    """What incidents are about that one of these alerts opened, where the runbook's `signal` would be beside the
    point: time per output token, not to the first one."""

    alerts: Annotated[tuple[str, ...], Field(min_length=1)]


class Step(_Strict):
    """`otherwise` stands for `with` where a name in that is not known: `with: {node: $node}`, and about a service alone
    `otherwise: {service: $service}`, all nodes of its replicas."""

    id: Word
    probe: Word
    ask: str | None = None  # the question in words, for the thread
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    otherwise: Mapping[str, Any] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 8

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Suggestion(_Strict):
    """A remediation in the file: relative (`add: 1`); the proposal made of it is absolute (3 -> 4)."""

    action: Word
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    why: str
    by_hand: str | None = None  # the command, where the action is not a button yet

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Rule(_Strict):
    """`when`: CEL expressions over the steps' readings (`queue.waiting > 50`); all must hold."""

    id: Word
    when: Annotated[tuple[str, ...], Field(min_length=1)]
    severity: Severity
    title: str  # "Under-provisioned": the verdict in two words
    finding: str  # the sentence; `${step.field}` puts a reading in
    because: tuple[str, ...] = ()  # evidence lines for the card
    suggest: tuple[Suggestion, ...] = ()
    suppresses: tuple[Word, ...] = ()  # symptoms that this cause explains
    note: str | None = None  # "the usual advice is ...; since vLLM 0.20 ..."


class Runbook(_Strict):
    title: str
    owner: str
    symptoms: str
    match: Annotated[tuple[LabelMatch, ...], Field(min_length=1)]
    signal: Signal | None = None
    other_signals: tuple[AlertSignal, ...] = ()
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    name: str = ""  # the file's name; filled in by loading

    @field_validator("steps", "rules")
    @classmethod
    def _ids_are_unique(cls, items: tuple[Any, ...]) -> tuple[Any, ...]:
        ids = [item.id for item in items]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"id used twice: {', '.join(twice)}")
        return items

    def signal_for(self, alert_names: Sequence[str]) -> Signal | None:
        """Of an incident: its first alert decides, so that the number stays the same while others join."""
        first = next(iter(alert_names), None)
        return next((other for other in self.other_signals if first in other.alerts), self.signal)

    def matches(self, labels: Mapping[str, str]) -> int:
        """How many labels the best entry of `match` asks for and finds; 0 if none holds. More is more specific."""

        def holds(want: LabelMatch) -> bool:
            return all(labels.get(k) in ((v,) if isinstance(v, str) else v) for k, v in want.items())

        return max((len(want) for want in self.match if holds(want)), default=0)
