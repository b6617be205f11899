"""What the changes of a node share: how a node is named, and whether it takes pods when they are done."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.actions.contract import Aim
from bot.fleet import NAME
from bot.ports import ConflictError, Node, Sources


class OutOfService(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    node: Annotated[str, Field(pattern=NAME)]
    schedulable: Literal[False] = False


class BackInService(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    node: Annotated[str, Field(pattern=NAME)]
    schedulable: Literal[True] = True


class Words(BaseModel):
    """What a runbook or a person may say: `node: gpu-07`; without it, the incident's node."""

    model_config = ConfigDict(extra="forbid")

    node: Annotated[str, Field(pattern=NAME)] | None = None


def worded(words: type[Words], with_: Mapping[str, Any]) -> Any:
    """An instance of `words`; ValueError in words."""
    try:
        return words.model_validate(dict(with_))
    except ValidationError as error:
        found = (f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
        raise ValueError("; ".join(found)) from error


def meant(words: Words, aim: Aim, sources: Sources) -> Node:
    name = words.node or aim.node
    if name is None:
        raise ValueError("it is not known which node is meant: say node=gpu-07")
    node = sources.cluster.node(name)
    if node is None:
        known = ", ".join(sorted(n.name for n in sources.cluster.nodes() if n.gpus)) or "none"
        raise ValueError(f"there is no node {name}; nodes with GPUs: {known}")
    return node


def there(name: str, sources: Sources) -> Node:
    node = sources.cluster.node(name)
    if node is None:
        raise ConflictError("Kubernetes", gone(name))
    return node


def gone(name: str) -> str:
    return f"the node {name} does not exist any more"
