"""One replica asked for one token: did it answer, does it let the request wait, or does it not even take it up?

A request that waits in a queue is told from one that an engine ignores by whether the engine made steps meanwhile, as
its own /metrics tells.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bot.ports import Completion, Sample, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.served import ServingPod
from bot.vllm import series
from bot.vllm.progress import COUNTERS, RUNNING, WAITING
from bot.vllm.redaction import redact
from bot.vllm.references import GoldenPrompt

_PROMPT = "The capital of France is"
_SENSE_TOKENS = 16
# NaN logits make argmax choose token 0 again and again: "!" in the vocabularies of Llama 3, Qwen, GPT and their kin; in
# others one that is not shown at all.
_GARBAGE = re.compile(r"!{8,}")
# NaN is no JSON, so the server fails while it writes the probabilities.
_NAN = "not JSON compliant"


class Outcome(Enum):
    ANSWERED = "answered"
    STUCK = "stuck"  # nothing else to do, no step, no answer, twice
    LATE = "late"  # no answer in time; it works, or has other work
    FAILED = "failed"
    REFUSED = "refused"  # 503: its queue is limited, and full
    UNREACHABLE = "unreachable"
    ASLEEP = "asleep"  # not asked; or paused, so that it does not answer
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Question:
    """sense: also ask for some tokens, and the golden prompts."""

    timeout_seconds: float
    sense: bool = False
    golden: tuple[GoldenPrompt, ...] = ()


@dataclass(frozen=True, slots=True)
class Canary:
    pod: str
    outcome: Outcome
    seconds: float = 0
    why: str | None = None
    nan: bool | None = None  # None: not asked, or it cannot be told
    garbage: bool | None = None
    wrong: str | None = None  # "2 + 2 = → 5"
    checked: bool = False  # all golden prompts were answered


def ask(pod: ServingPod, question: Question, sources: Sources) -> Canary:
    try:
        return _Asking(pod, question, sources).ask()
    except SourceError as error:
        return Canary(pod.pod.name, Outcome.NOT_ASKED, why=str(error))


class _Asking:
    def __init__(self, pod: ServingPod, question: Question, sources: Sources) -> None:
        self._pod = pod
        self._name = pod.pod.name
        self._address = pod.address or ""
        self._question = question
        self._engines = sources.engines
        self._model = ""

    def ask(self) -> Canary:
        page = self._page()
        if page is None:
            return self._is(Outcome.UNREACHABLE, "nobody answers at its address")
        # Some versions die of a request while they sleep.
        if page.asleep or (page.asleep is None and self._pod.arguments.switch("enable-sleep-mode")):
            return self._is(Outcome.ASLEEP)
        models = self._engines.models(self._address)
        model = models[0].get("id") if models else self._pod.arguments.model
        if not isinstance(model, str):
            return self._is(Outcome.NOT_ASKED, "which model it serves is not known")
        self._model = model
        completion = self._complete("1", 1)
        if completion.status is None:
            return self._unanswered(page)
        canary = _answered(self._name, completion)
        return self._with_sense(canary) if canary.outcome is Outcome.ANSWERED and self._question.sense else canary

    def _unanswered(self, before: "_Page") -> Canary:
        after = self._page()
        if after is None:
            return self._is(Outcome.UNREACHABLE, "it stopped answering while it was asked")
        if not before.progress:
            why = "it did not answer in time, and exports no counters that would tell a hang from a queue"
            return self._is(Outcome.NOT_ASKED, why)
        if after.progress != before.progress:  # of several engines it is enough that one moves
            return self._is(Outcome.LATE, "it works, and the request waits")
        if before.busy:
            return self._is(Outcome.LATE, "it made no step, but has other work")
        if not any(value for _, _, value in before.progress):
            return self._is(Outcome.LATE, "it has never made a step: its first request may compile kernels")
        if self._complete(_PROMPT, 1).status is not None:
            return self._is(Outcome.LATE, "it answered only the second time")
        last = self._page()
        if last is not None and last.progress == before.progress:
            if self._engines.paused(self._address):
                return self._is(Outcome.ASLEEP, "somebody has paused it")
            return self._is(Outcome.STUCK, "it had nothing else to do, and made no step")
        return self._is(Outcome.LATE, "it has begun to work")

    def _with_sense(self, canary: Canary) -> Canary:
        words = Later(lambda: self._complete(_PROMPT, _SENSE_TOKENS))
        asked = [(one, Later(self._golden(one))) for one in self._question.golden]
        answers = [(one, later.get()) for one, later in asked]
        wrong = [
            f"{one.prompt} → {redact(answer.text.strip())[:80] or '(nothing)'}"
            for one, answer in answers
            if answer.ok and not re.search(one.expect, answer.text)
        ]
        said = words.get()
        return replace(
            canary,
            nan=self._computes_nan(said),
            garbage=_GARBAGE.fullmatch(said.text.strip()) is not None if said.ok else None,
            wrong=wrong[0] if wrong else None,
            checked=bool(answers) and all(answer.ok for _, answer in answers),
        )

    def _computes_nan(self, said: Completion) -> bool | None:
        """Asked by probabilities only where the words are suspicious: the first such request makes the engine compile,
        and all others wait meanwhile."""
        if not said.ok:
            return None
        if len(set(said.text.split())) > 1:
            return False
        return _is_nan(self._complete(_PROMPT, 1, logprobs=True))

    def _golden(self, one: GoldenPrompt) -> Callable[[], Completion]:
        return lambda: self._complete(one.prompt, one.max_tokens)

    def _complete(self, prompt: str, tokens: int, *, logprobs: bool = False) -> Completion:
        seconds = self._question.timeout_seconds
        return self._engines.complete(
            self._address, self._model, timeout_seconds=seconds, prompt=prompt, max_tokens=tokens, logprobs=logprobs
        )

    def _page(self) -> "_Page | None":
        samples = self._engines.metrics(self._address)
        return None if samples is None else _Page.of(samples)

    def _is(self, outcome: Outcome, why: str | None = None) -> Canary:
        return Canary(self._name, outcome, why=why)


def _answered(name: str, completion: Completion) -> Canary:
    status = completion.status or 0
    if completion.ok:
        return Canary(name, Outcome.ANSWERED, completion.seconds)
    words = f"{status}: {redact(completion.text)[:200]}"
    if status == 503:
        return Canary(name, Outcome.REFUSED, why=words)
    if status >= 500 or status == 200:
        return Canary(name, Outcome.FAILED, why=words)
    return Canary(name, Outcome.NOT_ASKED, why=f"it refuses the question ({words})")


def _is_nan(completion: Completion) -> bool | None:
    if completion.ok:
        return None if completion.logprobs is None else any(p is None for p in completion.logprobs)
    return True if completion.status == 500 and _NAN in completion.text else None


@dataclass(frozen=True, slots=True)
class _Page:
    progress: Sequence[tuple[str, str, float]]  # (engine, counter, value)
    busy: bool
    asleep: bool | None  # None: not exported

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "_Page":
        progress: list[tuple[str, str, float]] = []
        work = 0.0
        asleep: bool | None = None
        for sample in samples:
            name, engine = sample.labels.get("__name__", ""), sample.labels.get("engine", "")
            if name in COUNTERS:
                progress.append((engine, name, sample.value))
            elif name in (RUNNING, WAITING) and engine:
                work += sample.value
            elif name == series.SLEEP_STATE and sample.labels.get("sleep_state") == "awake":
                asleep = bool(asleep) or sample.value == 0
        return cls(sorted(progress), work > 0, asleep)
