"""vLLM's own HTTP API on a pod's address: is it there, which version, which models, and does it really answer.

/health stays 200 while the engine hangs, so the one-token completion is the only question that proves service.
"""

import ipaddress
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
import urllib3
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from bot.outbound.bounded import TooLong, TooSlow, gather
from bot.outbound.json_http import Reply, session
from bot.ports import Completion, Sample, SourceError

# A model list is a few kB, a one-token completion less. What is longer is not vLLM.
BODY_LIMIT_BYTES = 1024 * 1024
_TEXT_LIMIT = 500


_Form = TypeVar("_Form", bound=BaseModel)


class _Version(BaseModel):
    version: str


class _Models(BaseModel):
    data: list[dict[str, Any]]


class _Logprobs(BaseModel):
    token_logprobs: list[float | None] = []


class _Choice(BaseModel):
    text: str
    logprobs: _Logprobs | None = None


class _Completed(BaseModel):
    choices: list[_Choice]


class _Paused(BaseModel):
    is_paused: bool


class _Tokenized(BaseModel):
    tokens: list[int]


class _Detokenized(BaseModel):
    prompt: str


class VllmHttp:
    """Implements ports.Engines. `api_key` is vLLM's --api-key, which guards /v1/* only."""

    def __init__(self, *, timeout_seconds: float = 3, api_key: str | None = None, threads: int = 32) -> None:
        self._timeout_seconds = timeout_seconds
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = session(threads)
        # Pod addresses are inside the cluster: no proxy of the environment leads there, no .netrc is meant for them.
        self._session.trust_env = False

    def health(self, address: str) -> int | None:
        reply = self._ask("GET", address, "/health")
        return None if reply is None else reply.status

    def version(self, address: str) -> str | None:
        """None: nobody listens, or it did not say in time."""
        reply = self._ask("GET", address, "/version")
        return None if reply is None else self._parsed(_Version, address, "/version", reply).version

    def models(self, address: str) -> tuple[Mapping[str, Any], ...] | None:
        """None: nobody listens, or it did not say in time."""
        reply = self._ask("GET", address, "/v1/models")
        return None if reply is None else tuple(self._parsed(_Models, address, "/v1/models", reply).data)

    def complete(
        self,
        address: str,
        model: str,
        *,
        timeout_seconds: float,
        prompt: str = "1",
        max_tokens: int = 1,
        logprobs: bool = False,
    ) -> Completion:
        question: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        if logprobs:
            question["logprobs"] = 1
        start = time.monotonic()
        reply = self._ask("POST", address, "/v1/completions", body=question, timeout_seconds=timeout_seconds)
        seconds = time.monotonic() - start
        if reply is None:
            return Completion(ok=False, status=None, seconds=seconds, text="")
        try:
            if reply.status == 200:
                return _completed(_Completed.model_validate(reply.json()), seconds)
        except (ValidationError, ValueError):
            pass  # a 200 that completes nothing: shown as what it is
        return Completion(ok=False, status=reply.status, seconds=seconds, text=_excerpt(reply.body))

    def metrics(self, address: str) -> tuple[Sample, ...] | None:
        """None: nobody listens, or it did not say in time."""
        reply = self._ask("GET", address, "/metrics")
        if reply is None:
            return None
        now = datetime.now(UTC)
        try:
            if reply.status != 200:
                raise ValueError(reply.status)
            families = text_string_to_metric_families(reply.body.decode())
            return tuple(
                Sample({**s.labels, "__name__": s.name}, float(s.value), now) for f in families for s in f.samples
            )
        except ValueError as error:
            why = f"{address}/metrics answered {reply.status} with something that Prometheus would not understand"
            raise SourceError("vLLM", why, "Is that really vLLM's port?", retryable=reply.status >= 500) from error

    def paused(self, address: str) -> bool | None:
        """Only a server in development mode can be paused; others know no such page. None: it did not say in time."""
        reply = self._ask("GET", address, "/is_paused")
        if reply is None or reply.status == 404:
            return None if reply is None else False
        return self._parsed(_Paused, address, "/is_paused", reply).is_paused

    def tokenize(self, address: str, model: str, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        """None: nobody listens, or it did not say in time. Without a chat template the server refuses."""
        question = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        reply = self._ask("POST", address, "/tokenize", body=question)
        return None if reply is None else tuple(self._parsed(_Tokenized, address, "/tokenize", reply).tokens)

    def detokenize(self, address: str, model: str, tokens: Sequence[int]) -> str | None:
        """None: nobody listens, or it did not say in time."""
        reply = self._ask("POST", address, "/detokenize", body={"model": model, "tokens": list(tokens)})
        return None if reply is None else self._parsed(_Detokenized, address, "/detokenize", reply).prompt

    def _ask(
        self, method: str, address: str, path: str, *, body: Any = None, timeout_seconds: float | None = None
    ) -> Reply | None:
        """None: nobody listens, or no whole answer came in time."""
        seconds = timeout_seconds or self._timeout_seconds
        url = _base(address) + path
        deadline = time.monotonic() + seconds
        try:
            with self._session.request(
                method,
                url,
                json=body,
                headers=self._headers,
                timeout=(min(2, seconds), seconds),
                allow_redirects=False,  # a pod sends nobody anywhere else
                stream=True,
            ) as answer:
                text = gather(answer.raw, deadline=deadline, limit_bytes=BODY_LIMIT_BYTES)
                return Reply(answer.status_code, text, answer.headers)
        except TooLong as error:
            raise SourceError("vLLM", f"{url}: {error}", "Is that really vLLM's port?") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, TooSlow):
            return None

    def _parsed(self, form: type[_Form], address: str, path: str, reply: Reply) -> _Form:
        if reply.status == 401:
            raise SourceError("vLLM", f"{address}{path} wants an API key", "It was started with --api-key.")
        try:
            return form.model_validate(reply.json())
        except (ValidationError, ValueError) as error:
            why = f"{address}{path} answered {reply.status}: {_excerpt(reply.body) or '(an empty body)'}"
            raise SourceError("vLLM", why, "Is that really vLLM's port?", retryable=reply.status >= 500) from error


def _completed(found: _Completed, seconds: float) -> Completion:
    text = "".join(choice.text for choice in found.choices)[:_TEXT_LIMIT]
    asked = [choice.logprobs.token_logprobs for choice in found.choices if choice.logprobs is not None]
    logprobs = tuple(p if p is None or math.isfinite(p) else None for one in asked for p in one) if asked else None
    return Completion(ok=True, status=200, seconds=seconds, text=text, logprobs=logprobs)


def _base(address: str) -> str:
    """`address` is what the API server says of a pod: an IP and a port, never a name that could lead elsewhere."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65536:
            raise ValueError("no such port")
    except ValueError as error:
        raise SourceError("vLLM", f"{address!r} is not the address of a pod (IP:port)") from error
    return f"http://[{ip}]:{port}" if ip.version == 6 else f"http://{ip}:{port}"


def _excerpt(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())[:_TEXT_LIMIT]
