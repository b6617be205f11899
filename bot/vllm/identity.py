"""What makes a model the model it is: its weights, their quantization, how text becomes tokens, how tokens are chosen.

Two replicas of one identity answer alike. From a pod's container, or from a template.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bot.ports import Container
from bot.vllm.arguments import arguments_of, serving_container
from bot.vllm.differences import as_container

_WEIGHTS = ("revision", "code-revision", "hf-config-path", "hf-overrides", "load-format")
_ADAPTERS = ("lora-modules",)
_NUMBERS = ("quantization", "dtype", "kv-cache-dtype", "calculate-kv-scales", "quantization-config")
_TEXT = ("tokenizer", "tokenizer-revision", "tokenizer-mode", "chat-template", "chat-template-content-format")
# Speculation is not among them: what it proposes is taken only if the model itself would have chosen so.
_CHOICE = ("generation-config", "override-generation-config", "logits-processors")
# Given so, they say what vLLM does anyway.
_DEFAULTS = {
    "revision": {"main"},
    "hf-overrides": {"{}"},
    "dtype": {"auto"},
    "kv-cache-dtype": {"auto"},
    "calculate-kv-scales": {"false"},
    "tokenizer-mode": {"auto"},
    "chat-template-content-format": {"auto"},
    "generation-config": {"auto"},
    "override-generation-config": {"{}"},
}
# The other formats are ways to load the same weights.
_OTHER_WEIGHTS = {"dummy"}
# They work only on a checkpoint that is quantized so, and are then found without being given. `fp8` and others may also
# quantize weights as they are loaded.
_BY_CHECKPOINT = {
    "awq", "awq_marlin", "gptq", "gptq_marlin", "compressed-tensors", "modelopt", "modelopt_fp4", "gguf", "moe_wna16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """Options by group, as given, without those that change nothing; what is not given is vLLM's default of that image.
    `hidden`: there may be more."""

    model: str | None
    image: str
    weights: Mapping[str, str]
    numbers: Mapping[str, str]
    text: Mapping[str, str]
    choice: Mapping[str, str]
    adapters: Mapping[str, str]  # on top of the weights, for requests that name one
    volumes: str = ""  # where the model's path lies; only of a template, and of a model that is given by a path
    text_volumes: str = ""  # where the tokenizer's and the chat template's paths lie
    hidden: str | None = None

    @property
    def pinned(self) -> bool | None:
        """A model by its name in a hub is whatever its owner has put there, unless a revision is given."""
        if self.model is None:
            return None
        return self.model.startswith(("/", ".")) or "revision" in self.weights


def of_container(container: Container) -> Identity:
    arguments = arguments_of(container)

    def given(names: tuple[str, ...]) -> dict[str, str]:
        return {
            option: value
            for option, value in arguments.given.items()
            if option.partition(".")[0] in names and not _says_nothing(option, value, arguments.model)
        }

    return Identity(
        arguments.model,
        container.image,
        weights=given(_WEIGHTS),
        numbers=given(_NUMBERS),
        text=given(_TEXT),
        choice=given(_CHOICE),
        adapters=given(_ADAPTERS),
        hidden=arguments.hidden,
    )


def of_template(template: Mapping[str, Any]) -> Identity | None:
    """None: it has no container that runs vLLM."""
    spec = template.get("spec") or {}
    raw = [c for c in spec.get("containers") or () if isinstance(c, Mapping)]
    by_name = {str(c.get("name", "")): c for c in raw}
    container = serving_container([as_container(c) for c in raw])
    if container is None:
        return None
    found = of_container(container)
    mounts = by_name[container.name].get("volumeMounts") or ()
    volumes = {str(v.get("name", "")): v for v in spec.get("volumes") or ()}
    texts = [path for option in ("tokenizer", "chat-template") if (path := found.text.get(option))]
    return replace(
        found,
        volumes=_holding([found.model] if found.model else [], mounts, volumes),
        text_volumes=_holding(texts, mounts, volumes),
    )


def _says_nothing(option: str, value: str, model: str | None) -> bool:
    if option == "load-format":
        return value not in _OTHER_WEIGHTS
    if option == "tokenizer":
        return value == model
    if option == "quantization":
        by_its_name = model is not None and value == "fp8" and "fp8" in model.lower()
        return value in _BY_CHECKPOINT or by_its_name
    return value in _DEFAULTS.get(option, ())


# ---------------------------------------------------------------------------------------------- of two


def numbers_differ(one: Identity, other: Identity) -> bool | None:
    """None: only one of them says which type the numbers have, and the checkpoint's own may be the same."""
    options = one.numbers.keys() | other.numbers.keys()
    differing = {option for option in options if one.numbers.get(option) != other.numbers.get(option)}
    if differing == {"dtype"} and not ("dtype" in one.numbers and "dtype" in other.numbers):
        return None
    return bool(differing)


def images_differ(one: str, other: str) -> bool | None:
    """A mirror of a repository has the same under the same tag. None: a tag here and a digest there, or `latest`."""
    if one == other:
        return False
    (name, tag, digest), (other_name, other_tag, other_digest) = _parts(one), _parts(other)
    if digest and other_digest:
        return digest != other_digest
    if not _mirrors(name, other_name) or (tag and other_tag and tag != other_tag):
        return True
    return None if digest or other_digest or tag in ("", "latest") else False


def _parts(image: str) -> tuple[list[str], str, str]:
    """(path, tag, digest); a colon before a slash is a registry's port."""
    rest, _, digest = image.partition("@")
    path = rest.split("/")
    path[-1], _, tag = path[-1].partition(":")
    return path, tag, digest


def _mirrors(one: list[str], other: list[str]) -> bool:
    """One path ends in the whole of the other: `vllm/vllm-openai` and `registry.local/hub/vllm/vllm-openai`."""
    short, long = sorted((_without_hub(one), _without_hub(other)), key=len)
    return short == long or (len(short) > 1 and long[-len(short) :] == short)


def _without_hub(path: list[str]) -> list[str]:
    return path[1:] if path[0] in ("docker.io", "index.docker.io", "registry-1.docker.io") else path


# ---------------------------------------------------------------------------------------------- where paths lie


def _holding(
    paths: Sequence[str], mounts: Sequence[Mapping[str, Any]], volumes: Mapping[str, Mapping[str, Any]]
) -> str:
    """The volumes that a path is in, or that are mounted within it. A hub's name has none: what is mounted then is its
    cache. Nor has scratch space: what lies there, something else has put there."""
    found = []
    for path in (p for p in paths if p.startswith("/")):
        at = {str(m.get("mountPath", "")).rstrip("/"): m for m in mounts}
        around = [place for place in at if _within(path, place)]
        inside = sorted(place for place in at if place != path.rstrip("/") and _within(place, path))
        for place in [*sorted(around, key=len)[-1:], *inside]:
            volume = volumes.get(str(at[place].get("name", "")), {})
            source = {key: value for key, value in volume.items() if key != "name"}
            if source and not _is_scratch(source):
                found.append({"source": source, "part": at[place].get("subPath")})
    return json.dumps(found, sort_keys=True)


def _within(path: str, place: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")


def _is_scratch(volume: Mapping[str, Any]) -> bool:
    return any(kind in volume for kind in ("emptyDir", "secret", "projected", "downwardAPI"))
