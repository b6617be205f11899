"""What is wrong with runbooks, all of it at once: names that do not exist, with the nearest that does.

A runbook with a mistake is not used; the one of the same name that was there before stays in force.
"""

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from bot.actions import finder as actions
from bot.fleet import Slo
from bot.probes import finder as probes
from bot.report import Code, Note, Report, Text, plain
from bot.runbook import conditions
from bot.runbook.conditions import Kind, nearest
from bot.runbook.loading import Mistake, Place, RunbookFile, in_words, load
from bot.runbook.schema import Rule, Runbook, Signal, Step
from bot.runbook.words import TARGET_WORDS, broken, filled, names_in, range_fields

# Refuses a query in Prometheus' own words; None: it is accepted.
PromQL = Callable[[str], str | None]

_SLO: dict[str, Kind] = {name: "number" for name in Slo.model_fields}
_KNOWN_WORDS = (*TARGET_WORDS, *(f"slo.{name}" for name in _SLO))
# What a name stands for while a query or a parameter is tried.
_SAMPLE: dict[str, Any] = {
    **dict.fromkeys(TARGET_WORDS, "sample"),
    "selector": 'namespace="sample",pod=~"sample-7d9f-[a-z0-9]{5}"',
    "window": "300s",
    "began": "2026-01-01T00:00:00+00:00",
    **{f"slo.{name}": 1.0 for name in _SLO},
}


@dataclass(frozen=True, slots=True)
class Library:
    """The runbooks that may be used, by name, and what keeps others from being."""

    runbooks: Mapping[str, Runbook]
    mistakes: tuple[Mistake, ...]
    replaced: tuple[str, ...] = ()  # which file stands for which other, in words


def check(folders: Sequence[Path], *, cases: Path | None = None, promql: PromQL | None = None) -> tuple[Mistake, ...]:
    """`cases`: the folder that must hold a case file for each runbook. `promql`: asks a live Prometheus."""
    loaded = load(folders)
    found = [mistake for file in loaded.files for mistake in mistakes_of(file, promql)]
    if cases is not None:
        found += [
            file.mistake((), f"has no case file: readings and expected verdicts belong into {cases / file.path.name}")
            for file in loaded.files
            if not (cases / f"{file.runbook.name}.yaml").is_file()
        ]
        names = sorted({*(f.runbook.name for f in loaded.files), *(m.path.stem for m in loaded.mistakes)})
        found += [
            Mistake(path, 1, 1, f"no runbook '{path.stem}'{nearest(path.stem, names)}")
            for path in sorted(cases.glob("*.yaml"))
            if path.stem not in names
        ]
    return tuple(sorted((*loaded.mistakes, *found), key=lambda m: (str(m.path), m.line, m.column)))


def library(folders: Sequence[Path], before: Mapping[str, Runbook] | None = None) -> Library:
    """A later folder's runbook replaces an earlier one's of the same name, if it has no mistake. `before`: what was
    in force; of a file that is there and broken, it stays so."""
    loaded = load(folders)
    good: dict[str, Runbook] = {}
    mistakes = list(loaded.mistakes)
    broken_names = {mistake.path.stem for mistake in loaded.mistakes}
    places: dict[str, Path] = {}
    replaced: list[str] = []
    for file in loaded.files:
        wrong = list(mistakes_of(file))
        mistakes += wrong
        if wrong:
            broken_names.add(file.runbook.name)
        else:
            name = file.runbook.name
            if name in places:
                replaced.append(f"{file.path} replaces {places[name]}.")
            good[name], places[name] = file.runbook, file.path
    for name in broken_names - good.keys():
        if before is not None and name in before:
            good[name] = before[name]
    return Library(good, tuple(mistakes), tuple(replaced))


def as_report(mistakes: Sequence[Mistake], runbooks: int, notes: Sequence[str] = ()) -> Report:
    """What `vllm-oncall check` prints. `notes`: what was looked at besides, and what was not."""
    count = f"{runbooks} runbook{'' if runbooks == 1 else 's'}"
    many = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'} in {count}."
    text = many if mistakes else f"{count}, no mistakes."
    listed = (Code("\n".join(str(mistake) for mistake in mistakes)),) if mistakes else ()
    return Report(text, (Text(plain(text)), *listed, *(Note(plain(note)) for note in notes)))


def mistakes_of(file: RunbookFile, promql: PromQL | None = None) -> Iterator[Mistake]:
    for place, text in _of_runbook(file.runbook, promql):
        yield file.mistake(place, text)


# ---------------------------------------------------------------------------------------------- steps and signal

_Found = Iterator[tuple[Place, str]]


def _of_runbook(runbook: Runbook, promql: PromQL | None) -> _Found:
    if runbook.signal is not None:
        yield from _of_signal(("signal",), runbook.signal, promql)
    for index, other in enumerate(runbook.other_signals):
        yield from _of_signal(("other_signals", index), other, promql)
    for index, step in enumerate(runbook.steps):
        yield from _of_step(("steps", index), step, promql)
    kinds, unsure = _kinds(runbook)
    for index, rule in enumerate(runbook.rules):
        yield from _of_rule(("rules", index), rule, runbook, kinds, unsure)
    yield from _circles(runbook)


def _of_signal(place: Place, signal: Signal, promql: PromQL | None) -> _Found:
    for field in ("query", "traffic"):
        query = getattr(signal, field)
        if query is not None:
            yield from _of_query((*place, field), query, promql)
    if isinstance(signal.threshold, str):
        yield from _of_words((*place, "threshold"), signal.threshold)
        if not signal.threshold.startswith("$"):
            yield (*place, "threshold"), f"{signal.threshold!r} is neither a number nor $slo.…"


def _of_query(place: Place, query: str, promql: PromQL | None) -> _Found:
    wrong = list(_of_words(place, query))
    yield from wrong
    if promql is not None and not wrong and (refused := promql(str(filled(query, _SAMPLE).value))) is not None:
        yield place, f"is refused by Prometheus: {refused.removeprefix('refused ')}"


def _of_step(place: Place, step: Step, promql: PromQL | None) -> _Found:
    if step.id == "slo":
        yield (*place, "id"), "slo is the service's promises in expressions; give the step another id"
    if step.probe not in probes.probe_names():
        yield (*place, "probe"), f"no probe '{step.probe}'{nearest(step.probe, probes.probe_names())}"
        return
    model = probes.probe(step.probe).Params
    yield from _of_with(place, "with", step.with_, step.probe, model, promql)
    if step.otherwise is not None:
        yield from _of_with(place, "otherwise", step.otherwise, step.probe, model, promql)


def _of_with(
    place: Place, key: str, given: Mapping[str, Any], probe: str, model: type[pydantic.BaseModel], promql: PromQL | None
) -> _Found:
    for name in given.keys() - model.model_fields.keys():
        known = list(model.model_fields)
        yield (*place, key, name), f"probe {probe} has no parameter '{name}'{nearest(name, known)}"
    words_wrong = list(_of_words((*place, key), given))
    yield from words_wrong
    if not words_wrong:
        yield from _of_params(place, key, given, probe, model, promql)


def _of_params(
    place: Place, key: str, given: Mapping[str, Any], probe: str, model: type[pydantic.BaseModel], promql: PromQL | None
) -> _Found:
    known = {name: value for name, value in given.items() if name in model.model_fields}
    try:
        model.model_validate(filled(known, _SAMPLE).value)
    except pydantic.ValidationError as error:
        for one in error.errors(include_url=False):
            where = ".".join(str(part) for part in one["loc"])
            lacks = one["type"] == "missing"
            text = f"probe {probe} needs the parameter '{where}'" if lacks else f"{where}: {in_words(one)}"
            yield (*place, *(("probe",) if lacks else (key, *one["loc"]))), text
        return
    if "query" in known:
        yield from _of_query((*place, key, "query"), str(known["query"]), promql)


def _of_words(place: Place, value: Any, readings: Mapping[str, Mapping[str, Any]] | None = None) -> _Found:
    """Names in a text, or in texts of a list or mapping: targets, and readings where these are known already."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _of_words((*place, key), item, readings)
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _of_words((*place, index), item, readings)
        return
    if (lone := broken(value)) is not None:
        yield place, lone
        return
    for name in names_in(value):
        if wrong := _unknown_word(name, readings):
            yield place, wrong


def _unknown_word(name: str, readings: Mapping[str, Mapping[str, Any]] | None) -> str | None:
    step, dot, field = name.partition(".")
    if name in _KNOWN_WORDS:
        return None
    if not dot or step == "slo":
        return f"no name ${name}{nearest(name, _KNOWN_WORDS)}"
    if readings is None:
        return f"${{{name}}}: readings are not there yet when steps are asked"
    if step not in readings:
        return f"${{{name}}}: no step '{step}'{nearest(step, list(readings))}"
    edges = range_fields(field)
    if field in readings[step] or (edges is not None and edges[0] in readings[step]):
        return None
    return f"${{{name}}}: no reading '{field}' of {step}{nearest(field, list(readings[step]))}"


# ---------------------------------------------------------------------------------------------- rules


def _kinds(runbook: Runbook) -> tuple[dict[str, dict[str, Kind]], set[str]]:
    """Each step's readings by kind, for those whose probe exists; and the ids of the others."""
    found: dict[str, dict[str, Kind]] = {"slo": _SLO}
    unsure: set[str] = set()
    for step in runbook.steps:
        if step.probe in probes.probe_names():
            found[step.id] = {name: _kind(type_) for name, type_ in probes.fields_of(step.probe).items()}
        else:
            unsure.add(step.id)
    return found, unsure


def _kind(annotation: Any) -> Kind:
    """Of a reading's field, without its `| None`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) in (tuple, list):
        return "list"
    if annotation is bool:
        return "bool"
    return "number" if annotation in (int, float) else "text"


def _of_rule(
    place: Place, rule: Rule, runbook: Runbook, kinds: Mapping[str, Mapping[str, Kind]], unsure: set[str]
) -> _Found:
    for index, source in enumerate(rule.when):
        yield from _of_condition((*place, "when", index), source, kinds, unsure)
    readings = {step: fields for step, fields in kinds.items() if step != "slo"}
    for field in ("finding", "note"):
        if (text := getattr(rule, field)) is not None:
            yield from _sure(_of_words((*place, field), text, readings), unsure)
    for index, line in enumerate(rule.because):
        yield from _sure(_of_words((*place, "because", index), line, readings), unsure)
    for index, suggestion in enumerate(rule.suggest):
        where: Place = (*place, "suggest", index)
        texts = {"with": suggestion.with_, "why": suggestion.why, "by_hand": suggestion.by_hand or ""}
        yield from _sure(_of_words(where, texts, readings), unsure)
        yield from _of_action(where, suggestion.action, suggestion.with_, suggestion.by_hand)
    known = [other.id for other in runbook.rules]
    for index, other in enumerate(rule.suppresses):
        if other == rule.id:
            yield (*place, "suppresses", index), f"'{other}' is this rule itself"
        elif other not in known:
            yield (*place, "suppresses", index), f"no other rule '{other}'{nearest(other, known)}"


def _of_condition(place: Place, source: str, kinds: Mapping[str, Mapping[str, Kind]], unsure: set[str]) -> _Found:
    try:
        condition = conditions.compiled(source)
    except conditions.ConditionError as error:
        yield place, f"`{source}` {error}"
        return
    if unsure & {reference.step for reference in condition.references}:
        return  # the probe's name is the mistake
    for text in conditions.mistakes(condition, kinds):
        yield place, f"`{source}`: {text}"


def _sure(found: _Found, unsure: set[str]) -> _Found:
    return ((place, text) for place, text in found if not any(f"no step '{step}'" in text for step in unsure))


def _of_action(place: Place, name: str, with_: Mapping[str, Any], by_hand: str | None) -> _Found:
    if name not in actions.names():
        if by_hand is None:
            close = nearest(name, actions.names())
            yield (*place, "action"), f"no action '{name}'{close}; one that is not there yet needs `by_hand:`"
        return
    model = actions.find(name).Words
    for key in with_.keys() - model.model_fields.keys():
        yield (*place, "with", key), f"action {name} takes no '{key}'{nearest(key, list(model.model_fields))}"
    # Values that come from readings are only known then.
    fixed = {key: value for key, value in with_.items() if key in model.model_fields and not names_in(value)}
    if len(fixed) == len(with_):
        try:
            model.model_validate(fixed)
        except pydantic.ValidationError as error:
            for one in error.errors(include_url=False):
                where = ".".join(str(part) for part in one["loc"])
                yield (*place, "with", *one["loc"]), f"action {name}: {where + ': ' if where else ''}{in_words(one)}"


def _circles(runbook: Runbook) -> _Found:
    """Rules that explain each other away would leave nothing. Each circle once, at its first rule."""
    suppresses = {rule.id: [other for other in rule.suppresses if other != rule.id] for rule in runbook.rules}
    told: set[str] = set()
    for index, rule in enumerate(runbook.rules):
        circle = _way(rule.id, rule.id, suppresses)
        if circle and not told & set(circle):
            told |= set(circle)
            way = " suppresses ".join([rule.id, *circle])
            yield ("rules", index, "suppresses"), f"in the end suppresses itself: {way}"


def _way(start: str, end: str, suppresses: Mapping[str, Sequence[str]]) -> list[str]:
    """The shortest way along what suppresses what; empty if there is none."""
    ways, seen = [[other] for other in suppresses.get(start, ())], set[str]()
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, other] for other in suppresses.get(way[-1], ())]
    return []
