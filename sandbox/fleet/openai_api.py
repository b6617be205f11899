"""The shapes of vLLM's OpenAI-like API: what a completion request may say, and what answers look like."""

from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from sandbox.fleet.words import tokens_of


class Message(BaseModel):
    role: str
    content: str


class Asked(BaseModel):
    """What of a completion request is understood; the rest is ignored."""

    model: str | None = None
    prompt: str | list[int] | None = None
    messages: list[Message] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    n: Literal[1] = 1

    @property
    def text(self) -> str:
        if self.messages is not None:
            return "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        return self.prompt if isinstance(self.prompt, str) else " ".join(map(str, self.prompt or []))

    @property
    def tokens(self) -> list[int]:
        return self.prompt if isinstance(self.prompt, list) else tokens_of(self.text)


def choice(chat: bool, text: str, reason: str) -> dict[str, Any]:
    content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def piece(chat: bool, text: str, reason: str | None) -> dict[str, Any]:
    content = {"delta": {"content": text}} if chat else {"text": text}
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def refusal(status: int, kind: str, message: str, param: str | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": param, "code": status}}, status=status
    )
