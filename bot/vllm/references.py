"""What people declare to be right for a service, as annotations of its Deployment: the revision that was good,
questions whose answers are known, the tokens that a chat must become. Without one nothing is said to differ from it.

    vllm-oncall/known-good-revision: "7"                          # or the ReplicaSet's name, which keeps for good
    vllm-oncall/golden-prompts: '[{"prompt": "2 + 2 =", "expect": "4"}]'
    vllm-oncall/chat-reference: '{"messages": [{"role": "user", "content": "hi"}], "tokens": [128000, 6151]}'
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

KNOWN_GOOD_REVISION = "vllm-oncall/known-good-revision"
GOLDEN_PROMPTS = "vllm-oncall/golden-prompts"
CHAT_REFERENCE = "vllm-oncall/chat-reference"

_T = TypeVar("_T")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoldenPrompt(_Strict):
    """`expect`: a regular expression that the answer, at temperature 0, must hold somewhere."""

    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    expect: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=64)] = 16

    @field_validator("expect")
    @classmethod
    def _it_is_an_expression(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from error
        return text


class ChatReference(_Strict):
    """The tokens that the reference implementation makes of the messages, or their hash (`token_hash`)."""

    messages: Annotated[tuple[Mapping[str, str], ...], Field(min_length=1)]
    tokens: tuple[int, ...] | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ChatReference":
        if (self.tokens is None) == (self.sha256 is None):
            raise ValueError("give either tokens or sha256")
        return self


class UnreadableError(ValueError):
    """The annotation cannot be read. The text says which, and why."""


def token_hash(tokens: Sequence[int]) -> str:
    """Of the numbers, with commas between: what `sha256` holds where the list would be too long for an annotation."""
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()


def golden_prompts(annotations: Mapping[str, str]) -> tuple[GoldenPrompt, ...]:
    """Empty if there are none. Raises UnreadableError."""
    return _read(annotations, GOLDEN_PROMPTS, TypeAdapter(tuple[GoldenPrompt, ...])) or ()


def chat_reference(annotations: Mapping[str, str]) -> ChatReference | None:
    """None if there is none. Raises UnreadableError."""
    return _read(annotations, CHAT_REFERENCE, TypeAdapter(ChatReference))


def _read(annotations: Mapping[str, str], name: str, form: TypeAdapter[_T]) -> _T | None:
    text = annotations.get(name)
    if text is None:
        return None
    try:
        return form.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableError(f"annotation {name}: {where + ': ' if where else ''}{first['msg']}") from error
    except ValueError as error:
        raise UnreadableError(f"annotation {name} is no JSON: {error}") from error
