"""Does each replica answer a request of one token, and does what it says make sense?

The only question that proves service: /health says 200 while an engine hangs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.fleet import Service
from bot.ports import Sources
from bot.probes.asking import Later
from bot.probes.canaries import Canary, Outcome, Question, ask
from bot.probes.naming import first, names
from bot.probes.served import ServingPod, service_of, serving_pods
from bot.vllm.references import GOLDEN_PROMPTS, GoldenPrompt, UnreadableError, golden_prompts


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 5
    max_replicas: Annotated[int, Field(ge=1, le=64)] = 8
    # Also ask for some words, and the golden prompts that the workload declares.
    sense: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """stuck, failed and refused are None, not 0, while some replica could not be asked; nan, garbage and wrong are so
    unless `sense` was asked for and all replicas could be told."""

    asked: int | None = None
    answered: int | None = None
    stuck: int | None = None  # nothing else to do, no step, no answer, twice
    late: int | None = None  # no answer in time; they work, or have other work
    failed: int | None = None  # 5xx
    refused: int | None = None  # 503: the queue is limited, and full
    unreachable: int | None = None
    asleep: int | None = None  # not asked, as some versions die of it; or paused
    stuck_pod: str | None = None
    stuck_pods: str | None = None
    failed_pods: str | None = None
    failed_why: str | None = None
    slowest_answer_seconds: float | None = None
    nan: int | None = None  # replicas whose words are suspicious, and whose probabilities are no numbers
    nan_pod: str | None = None
    garbage: int | None = None  # that answer "!!!!!!!!"
    garbage_pod: str | None = None
    wrong: int | None = None  # that fail a golden prompt
    wrong_pods: str | None = None
    wrong_answer: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = sorted((p for p in serving_pods(sources, service) if _runs(p)), key=lambda p: p.pod.name)
    golden, unreadable = _golden(sources, service) if params.sense else ((), None)
    question = Question(params.timeout_seconds, params.sense, golden)
    asked = [Later(_asking(pod, question, sources)) for pod in pods[: params.max_replicas]]
    missing = [unreadable] if unreadable else []
    if params.sense and not golden and not unreadable:
        missing.append(f"no golden prompts are declared (annotation {GOLDEN_PROMPTS})")
    if len(pods) > len(asked):
        missing.append(f"{len(pods) - len(asked)} more replicas were not asked")
    return _told([later.get() for later in asked], missing, all_asked=len(pods) == len(asked))


def _runs(pod: ServingPod) -> bool:
    return pod.address is not None and pod.container.state is not None and pod.container.state.phase == "running"


def _asking(pod: ServingPod, question: Question, sources: Sources) -> Callable[[], Canary]:
    return lambda: ask(pod, question, sources)


def _golden(sources: Sources, service: Service) -> tuple[tuple[GoldenPrompt, ...], str | None]:
    for ref in service.workloads:
        workload = sources.cluster.workload(ref)
        try:
            prompts = golden_prompts(workload.annotations) if workload is not None else ()
        except UnreadableError as error:
            return (), str(error)
        if prompts:
            return prompts, None
    return (), None


def _told(found: Sequence[Canary], missing: list[str], *, all_asked: bool) -> Reading:
    by = {outcome: [c for c in found if c.outcome is outcome] for outcome in Outcome}
    not_asked, answered = by[Outcome.NOT_ASKED], by[Outcome.ANSWERED]
    missing = [*(f"{c.pod}: {c.why}" for c in not_asked[:3]), *missing]
    if not found:
        return Reading(asked=0, missing="; ".join(["no replica runs that could be asked", *missing]))

    def bad(outcome: Outcome) -> int | None:
        return len(by[outcome]) or (0 if all_asked and not not_asked else None)

    def told(bad_ones: Sequence[Canary], *, known: bool) -> int | None:
        return len(bad_ones) or (0 if all_asked and known else None)

    nan, garbage, wrong = ([c for c in found if which(c)] for which in (_has_nan, _has_garbage, _is_wrong))
    return Reading(
        asked=len(found) - len(not_asked) - len(by[Outcome.ASLEEP]),
        answered=len(answered),
        stuck=bad(Outcome.STUCK),
        late=len(by[Outcome.LATE]),
        failed=bad(Outcome.FAILED),
        refused=bad(Outcome.REFUSED),
        unreachable=len(by[Outcome.UNREACHABLE]),
        asleep=len(by[Outcome.ASLEEP]),
        stuck_pod=first(c.pod for c in by[Outcome.STUCK]),
        stuck_pods=names(c.pod for c in by[Outcome.STUCK]),
        failed_pods=names(c.pod for c in by[Outcome.FAILED]),
        failed_why=next((c.why for c in by[Outcome.FAILED]), None),
        slowest_answer_seconds=max((c.seconds for c in answered), default=None),
        nan=told(nan, known=all(c.nan is False for c in found)),
        nan_pod=first(c.pod for c in nan),
        garbage=told(garbage, known=all(c.garbage is False for c in found)),
        garbage_pod=first(c.pod for c in garbage),
        wrong=told(wrong, known=all(c.checked for c in found)),
        wrong_pods=names(c.pod for c in wrong),
        wrong_answer=next((c.wrong for c in wrong), None),
        missing="; ".join(missing) or None,
    )


def _has_nan(canary: Canary) -> bool:
    return canary.nan is True


def _has_garbage(canary: Canary) -> bool:
    return canary.garbage is True


def _is_wrong(canary: Canary) -> bool:
    return canary.wrong is not None
