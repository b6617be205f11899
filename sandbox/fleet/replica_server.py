"""One replica's HTTP, on its pod's address: the part of vLLM's API that people and probes use."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from sandbox.fleet.engine import Request, State
from sandbox.fleet.exposition import CONTENT_TYPE, page
from sandbox.fleet.openai_api import Asked, choice, piece, refusal
from sandbox.fleet.replica import Process, Replica
from sandbox.fleet.runtime import Runtime
from sandbox.fleet.words import answer

DEFAULT_CHAT_TOKENS = 64  # a chat model ends its answer by itself; this one always here
UNCOUNTED = {"/metrics", "/health", "/ping", "/version", "/load"}  # as vLLM's middleware leaves them out
_IN_ENGINE = web.RequestKey("in_engine", bool)  # set on requests that the engine has taken or refused
# vLLM's own words, by which clients recognise the error.
BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."


class ReplicaServer:
    """One run of one container. After its process ended it answers nothing more, on open connections either."""

    def __init__(self, replica: Replica, process: Process, runtime: Runtime) -> None:
        self.replica = replica
        self.process = process
        self._runtime = runtime
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._numbers = 0

    async def open(self, ip: str, port: int) -> None:
        """Raises OSError if the address cannot be had."""
        app = web.Application(middlewares=[self._middleware], client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/health", self._health),
                web.get("/ping", self._health),
                web.get("/version", self._version),
                web.get("/load", self._load),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/detokenize", self._detokenize),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._completions),
            ]
        )
        # Cancelled when the client leaves, so that the engine can drop its request, as vLLM does.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, ip, port)
        await self._site.start()

    async def stop_listening(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def close(self) -> None:
        """End the open connections too."""
        await self.stop_listening()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self.replica.process is not self.process:
            _hang_up(request)
        started = time.monotonic()
        counted = True
        try:
            if not self._allowed(request):
                response: web.StreamResponse = refusal(401, "Unauthorized", "Unauthorized")
            else:
                response = await handler(request)
                counted = _IN_ENGINE not in request  # the replica counts those, when they end
        except web.HTTPNotFound:
            response = web.json_response({"detail": "Not Found"}, status=404)
        except web.HTTPMethodNotAllowed:
            response = web.json_response({"detail": "Method Not Allowed"}, status=405)
        if counted and request.path not in UNCOUNTED:
            resource = request.match_info.route.resource
            handler_label = resource.canonical if resource else "none"
            seconds, now = time.monotonic() - started, self._runtime.clock.now()
            sent = response.content_length or 0
            self.process.http.answered(
                handler_label, request.method, response.status, seconds, now, sent, request.content_length or 0
            )
        return response

    def _allowed(self, request: web.Request) -> bool:
        key = self.replica.arguments.get("api-key")
        if key is None or not request.path.startswith("/v1"):
            return True
        return hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {key}")

    # --- pages

    async def _metrics(self, request: web.Request) -> web.Response:
        capacity = self.replica.capacity
        assert capacity is not None  # or it would not listen
        text = page(self.replica, self.process, capacity, self._runtime.clock.epoch)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self.replica.version})

    async def _load(self, request: web.Request) -> web.Response:
        return web.json_response({"server_load": 0})

    async def _models(self, request: web.Request) -> web.Response:
        model = {
            "id": self.replica.model,
            "object": "model",
            "created": int(self._runtime.clock.epoch(self._runtime.clock.now())),
            "owned_by": "vllm",
            "root": self.replica.arguments.model or self.replica.model,
            "parent": None,
            "max_model_len": self.process.engine.limits.max_model_len,
            "permission": [],
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            asked = Asked.model_validate_json(await request.read())
        except ValidationError as error:
            return refusal(400, "BadRequestError", str(error))
        tokens = asked.tokens
        limit = self.process.engine.limits.max_model_len
        return web.json_response(
            {"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": None},
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        """Its tokens have no text of their own: each is written as its number."""
        asked = await request.json()
        return web.json_response({"prompt": " ".join(str(token) for token in asked["tokens"])})

    # --- completions, which go through the engine's queue

    async def _completions(self, http: web.Request) -> web.StreamResponse:
        try:
            asked = Asked.model_validate_json(await http.read())
        except ValidationError as error:
            return refusal(400, "BadRequestError", str(error))
        if asked.model not in (None, self.replica.model):
            return refusal(404, "NotFoundError", f"The model `{asked.model}` does not exist.", "model")
        request = self._request(asked, http.path)
        limit = self.process.engine.limits.max_model_len
        wanted = asked.max_tokens or 0
        if request.prompt_tokens + max(wanted, 1) > limit:
            return refusal(
                400,
                "BadRequestError",
                f"This model's maximum context length is {limit} tokens. However, you requested {wanted} output tokens"
                f" and your prompt contains {request.prompt_tokens} input tokens.",
            )
        http[_IN_ENGINE] = True
        status = self._runtime.submit(self.replica, request)
        if status != 200:
            return refusal(status, "ServiceUnavailableError", BUSY)
        try:
            if asked.stream:
                return await self._stream(http, asked, request)
            return await self._whole(http, asked, request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.process.engine.abort(request, self._runtime.clock.now())
            raise

    def _request(self, asked: Asked, path: str) -> Request:
        chat = asked.messages is not None
        wanted = asked.max_completion_tokens or asked.max_tokens
        length = min(wanted or DEFAULT_CHAT_TOKENS, DEFAULT_CHAT_TOKENS) if chat else wanted or 16
        return Request(
            prompt_tokens=max(1, len(asked.tokens)),
            output_tokens=length,
            arrived_at=0.0,
            max_tokens=wanted if chat else length,
            handler=path,
        )

    async def _whole(self, http: web.Request, asked: Asked, request: Request) -> web.Response:
        while not request.done:
            await self._runtime.ticked.wait()
        if request.state is not State.FINISHED:
            _hang_up(http)
        text = "".join(islice(answer(asked.text), request.generated))
        chat = asked.messages is not None
        body = self._body(chat, "chat.completion" if chat else "text_completion")
        body["choices"] = [choice(chat, text, request.finish_reason)]
        body["usage"] = {
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": request.generated,
            "total_tokens": request.prompt_tokens + request.generated,
        }
        return web.json_response(body)

    async def _stream(self, http: web.Request, asked: Asked, request: Request) -> web.StreamResponse:
        chat = asked.messages is not None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(http)
        head = self._body(chat, "chat.completion.chunk" if chat else "text_completion")
        words = answer(asked.text)
        sent = 0
        while True:
            while sent < request.generated:
                sent += 1
                last = request.done and sent == request.generated
                part = piece(chat, next(words), request.finish_reason if last else None)
                await response.write(f"data: {json.dumps({**head, 'choices': [part]})}\n\n".encode())
            if request.done:
                break
            await self._runtime.ticked.wait()
        if request.state is not State.FINISHED:
            _hang_up(http)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _body(self, chat: bool, kind: str) -> dict[str, Any]:
        self._numbers += 1
        capacity = self.replica.capacity
        size = capacity.tensor_parallel_size if capacity else 1
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.replica.facts.name}-{self._numbers}",
            "object": kind,
            "created": int(self._runtime.clock.epoch(self._runtime.clock.now())),
            "model": self.replica.model,
            "system_fingerprint": f"vllm-{self.replica.version}-tp{size}",
        }


def _hang_up(request: web.Request) -> None:
    """As when the process at the other end is gone."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the replica is gone")
