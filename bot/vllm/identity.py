"""What makes a model the model it is: its weights, their quantization, how text becomes tokens, how tokens are chosen.

Two replicas of one identity answer alike. From a pod's container, or from a template.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.ports import Container
from bot.vllm.arguments import arguments_of, serving_container
from bot.vllm.differences import as_container

_WEIGHTS = ("revision", "code-revision", "hf-config-path", "hf-overrides", "load-format", "model-impl")
_ADAPTERS = ("lora-modules",)
_NUMBERS = ("quantization", "dtype", "kv-cache-dtype", "calculate-kv-scales", "quantization-config")
_TEXT = ("tokenizer", "tokenizer-revision", "tokenizer-mode", "chat-template", "chat-template-content-format")
_CHOICE = ("generation-config", "override-generation-config", "logits-processors", "speculative-config")


@dataclass(frozen=True, slots=True)
class Identity:
    """Options by group, as given; what is not given is vLLM's default of that image. `hidden`: there may be more."""

    model: str | None
    image: str
    weights: Mapping[str, str]
    numbers: Mapping[str, str]
    text: Mapping[str, str]
    choice: Mapping[str, str]
    adapters: Mapping[str, str]  # on top of the weights, for requests that name one
    volumes: str = ""  # where the weights may come from; only of a template
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
        found = {}
        for option, value in arguments.given.items():
            head = option.partition(".")[0]
            if head in names:
                found[option] = value
        return found

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
    mounts = {m.get("name") for m in by_name[container.name].get("volumeMounts") or ()}
    volumes = [v for v in spec.get("volumes") or () if v.get("name") in mounts and not _is_scratch(v)]
    return Identity(
        found.model,
        found.image,
        found.weights,
        found.numbers,
        found.text,
        found.choice,
        found.adapters,
        json.dumps(volumes, sort_keys=True),
        found.hidden,
    )


def _is_scratch(volume: Mapping[str, Any]) -> bool:
    return any(kind in volume for kind in ("emptyDir", "secret", "projected", "downwardAPI"))
