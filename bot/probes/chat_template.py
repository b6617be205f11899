"""Does a chat become the tokens that the reference makes of it, and on every replica the same?

Some templates put the date of the day into every chat (Llama 3.x, gpt-oss): what differs in a date alone differs in
nothing that was ever right.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.fleet import Service
from bot.ports import SourceError, Sources
from bot.probes.asking import Later
from bot.probes.naming import first, names
from bot.probes.served import ServingPod, service_of, serving_pods
from bot.vllm.redaction import redact
from bot.vllm.references import CHAT_REFERENCE, ChatReference, UnreadableError, chat_reference, token_hash

# Without a reference replicas can still be compared with one another.
_NEUTRAL: tuple[Mapping[str, str], ...] = (
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Hello, how are you?"},
)
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{{4}}"
    rf"|(?:[MTWFS][a-z]+,? )?(?:\d\d? {_MONTH}|{_MONTH} \d\d?),? \d{{4}}"
)


class Params(BaseModel):
    """The reference is the workload's annotation; or a runbook's own, by `messages` with `tokens` or `sha256`."""

    model_config = ConfigDict(extra="forbid")

    service: str
    messages: tuple[Mapping[str, str], ...] | None = None
    tokens: tuple[int, ...] | None = None
    sha256: str | None = None
    max_replicas: Annotated[int, Field(ge=1, le=64)] = 8

    @model_validator(mode="after")
    def _complete(self) -> "Params":
        if self.messages is not None:
            ChatReference(messages=self.messages, tokens=self.tokens, sha256=self.sha256)
        return self


@dataclass(frozen=True, slots=True)
class Reading:
    """differing: from the reference; None without one, or where they may differ in a date alone. variants: among the
    replicas themselves."""

    asked: int | None = None
    answered: int | None = None
    differing: int | None = None
    differing_pod: str | None = None
    differing_pods: str | None = None
    difference: str | None = None  # "token 3 is 128009, not 128006"
    variants: int | None = None  # 1: all replicas make the same of it
    without_template: int | None = None  # they refuse chats, as the tokenizer has no template
    token_count: int | None = None
    reference: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    pod: str
    tokens: tuple[int, ...] | None = None
    why: str | None = None
    dated: str | None = None  # why its tokens may be the reference's, but for a date

    @property
    def has_no_template(self) -> bool:
        return self.why is not None and "chat template" in self.why


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods_asked = Later(lambda: serving_pods(sources, service))
    reference, missing = _reference(params, sources, service)
    pods = sorted((p for p in pods_asked.get() if p.pod.ready and p.address), key=lambda p: p.pod.name)
    messages = reference.messages if reference is not None else _NEUTRAL
    asked = [Later(_asking(pod, messages, reference, sources)) for pod in pods[: params.max_replicas]]
    if not asked:
        return Reading(asked=0, missing="no replica is ready")
    return _told([later.get() for later in asked], reference, missing)


def _reference(params: Params, sources: Sources, service: Service) -> tuple[ChatReference | None, str | None]:
    if params.messages is not None:
        return ChatReference(messages=params.messages, tokens=params.tokens, sha256=params.sha256), None
    for ref in service.workloads:
        workload = sources.cluster.workload(ref)
        try:
            found = chat_reference(workload.annotations) if workload is not None else None
        except UnreadableError as error:
            return None, str(error)
        if found is not None:
            return found, None
    return (
        None,
        f"no reference is declared (annotation {CHAT_REFERENCE}), so replicas were only compared with each other",
    )


def _asking(
    pod: ServingPod, messages: Sequence[Mapping[str, str]], reference: ChatReference | None, sources: Sources
) -> Callable[[], _Answer]:
    def ask() -> _Answer:
        name, address = pod.pod.name, pod.address or ""
        try:
            models = sources.engines.models(address)
            model = models[0].get("id") if models else pod.arguments.model
            if not isinstance(model, str):
                return _Answer(name, why="which model it serves is not known")
            tokens = sources.engines.tokenize(address, model, messages)
        except SourceError as error:
            return _Answer(name, why=redact(error.why)[:300])
        if tokens is None:
            return _Answer(name, why="it did not answer in time")
        return _Answer(name, tokens, dated=_dated(sources, address, model, tokens, reference))

    return ask


def _dated(
    sources: Sources, address: str, model: str, tokens: tuple[int, ...], reference: ChatReference | None
) -> str | None:
    """Why nobody can tell whether these differ from the reference in more than the date of the day; None: they do, or
    not at all."""
    if reference is None or _difference(tokens, reference) is None:
        return None
    try:
        text = sources.engines.detokenize(address, model, tokens)
        wanted = sources.engines.detokenize(address, model, reference.tokens or ())
    except SourceError as error:
        return f"whether more than a date differs is not known: {redact(error.why)[:200]}"
    if text is None or wanted is None:
        return "whether more than a date differs is not known: it did not answer in time"
    if reference.tokens is None:
        return (
            "it puts a date into the chat, so that a hash tells nothing: declare the tokens" if _dates(text) else None
        )
    same = text != wanted and _DATE.sub("(date)", text) == _DATE.sub("(date)", wanted)
    return f"its tokens differ from the reference's in the date alone ({', '.join(_dates(text))})" if same else None


def _dates(text: str) -> list[str]:
    return _DATE.findall(text)


def _told(found: Sequence[_Answer], reference: ChatReference | None, missing: str | None) -> Reading:
    answered = [a for a in found if a.tokens is not None]
    silent = [a for a in found if a.tokens is None]
    dated = [a for a in answered if a.dated is not None]
    differing = [a for a in answered if a.dated is None and _differs(a, reference) is not None]
    sure = not silent
    reasons = [f"{a.pod}: {a.why or a.dated}" for a in (*silent, *dated)[:3]] + ([missing] if missing else [])
    variants = {a.tokens for a in answered}
    return Reading(
        asked=len(found),
        answered=len(answered),
        differing=len(differing) or (0 if reference is not None and sure and not dated else None),
        differing_pod=first(a.pod for a in differing),
        differing_pods=names(a.pod for a in differing),
        difference=_differs(differing[0], reference) if differing else None,
        variants=len(variants) if sure or len(variants) > 1 else None,
        without_template=sum(a.has_no_template for a in silent) or (0 if sure else None),
        token_count=len(answered[0].tokens or ()) if len(variants) == 1 else None,
        reference=_words(reference) if reference is not None else None,
        missing="; ".join(reasons) or None,
    )


def _differs(answer: _Answer, reference: ChatReference | None) -> str | None:
    return None if reference is None else _difference(answer.tokens or (), reference)


def _difference(got: tuple[int, ...], reference: ChatReference) -> str | None:
    wanted = reference.tokens
    if wanted is None:
        return None if token_hash(got) == reference.sha256 else f"{len(got)} tokens with another hash"
    if got == wanted:
        return None
    for place, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            return f"token {place} is {one}, not {other}"
    return f"{len(got)} tokens, not {len(wanted)}"


def _words(reference: ChatReference) -> str:
    count = f", {len(reference.tokens)} tokens" if reference.tokens is not None else ""
    return f"{len(reference.messages)} messages{count}"
