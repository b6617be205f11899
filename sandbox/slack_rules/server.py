"""Builds the rules and serves them on three ports: the bot's (API and sockets), the browsers', and the control API."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from sandbox.faults import CutError, Faults, Front, Outage, Where
from sandbox.request_log import RequestLog
from sandbox.slack_rules.access import Channels
from sandbox.slack_rules.control import add_control
from sandbox.slack_rules.display import Display
from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.interactions import Interactions
from sandbox.slack_rules.local import Local
from sandbox.slack_rules.messages import Messages
from sandbox.slack_rules.modals import Modals
from sandbox.slack_rules.pace import Pace
from sandbox.slack_rules.pages import Pages
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_rules.replies import Replies
from sandbox.slack_rules.rules import Rules
from sandbox.slack_rules.settings import RulesSettings
from sandbox.slack_rules.sockets import Sockets
from sandbox.slack_rules.tickets import Tickets
from sandbox.slack_rules.web_api import WebApi, read_args

_MESSAGES_OF = {"C": "message.channels", "G": "message.groups", "D": "message.im"}


def subscribed(event: Json, events: Collection[str]) -> bool:
    """An app hears only what its manifest subscribes to; messages by the kind of channel they are in."""
    if event.get("type") != "message":
        return event.get("type") in events
    return _MESSAGES_OF.get(str(event.get("channel"))[:1]) in events


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SlackServer:
    def __init__(self, settings: RulesSettings, session: aiohttp.ClientSession) -> None:
        workspace = settings.workspace
        api_url, page_url = f"http://127.0.0.1:{settings.api_port}", f"http://127.0.0.1:{settings.page_port}"
        self._settings = settings
        self.faults = Faults(settings.latency_seconds)
        self.log = RequestLog(Path(settings.log))
        self.rules = Rules(set(settings.off))
        self.local = Local(settings.local_url, session)
        self.pace = Pace(settings.post_burst)
        self.modals = Modals(workspace)
        self._messages = Messages()
        channels = Channels.of(workspace)
        tickets = Tickets(settings.trigger_seconds, settings.response_seconds)
        self.sockets = Sockets(
            self.rules,
            self.faults,
            self.log,
            ack_seconds=settings.ack_seconds,
            event_retry_seconds=settings.event_retry_seconds,
            on_change=lambda app_id, connected: self._pages.show_connected(app_id, connected),
        )
        self._replies = Replies(workspace, self.rules, self.local, self._messages, tickets, api_url)
        self.interactions = Interactions(
            workspace,
            self.rules,
            self.log,
            self.local,
            channels,
            self.modals,
            tickets,
            self.sockets,
            self._replies,
            lambda: self._pages,
        )
        self._file_paths: dict[str, str] = {}
        self._pages = Pages(
            workspace,
            self.local,
            self.modals,
            self._messages,
            Display(workspace, now=lambda: datetime.now(UTC), file_path=self._file_paths.get),
            connected=lambda app_id: self.sockets.connected(app_id) > 0,
            on_act=self.interactions.act,
        )
        self._api = WebApi(
            workspace,
            self.rules,
            self.faults,
            self.log,
            self.local,
            channels=channels,
            messages=self._messages,
            modals=self.modals,
            tickets=tickets,
            pace=self.pace,
            sockets=self.sockets,
            pages=self._pages,
            socket_url=f"ws://127.0.0.1:{settings.api_port}/link",
            rewrite=lambda text: text.replace(f"{settings.local_url}/upload/", f"{api_url}/upload/").replace(
                settings.local_url, page_url
            ),
            on_file=self._learn_file,
        )

    async def reset(self) -> None:
        """Empty channels, no modals, full buckets; connections stay."""
        await self.local.reset()
        self.modals.forget()
        self.pace.forget()
        self._messages.forget()

    async def serve(self) -> None:
        """For ever."""
        api = web.Application(client_max_size=2**28)
        for method in ("GET", "POST"):
            api.router.add_route(method, "/api/{method}", self._door(self._api.handle))
        api.router.add_get("/link", self.sockets.serve)
        api.router.add_post("/actions/{secret}", self._door(self._reply))
        api.router.add_post("/upload/{path:.*}", self._door(self._upload))
        api.router.add_get("/files-pri/{path:.*}", self._door(self._pages.serve))
        page = web.Application(client_max_size=2**28)
        page.router.add_get("/ui", self._pages.serve_socket)
        page.router.add_route("*", "/{path:.*}", self._pages.serve)
        api_front = Front(api, self._settings.api_port)

        async def on_outage(outage: Outage) -> None:
            """A Slack that is down drops its sockets, except one that merely hangs."""
            if outage == Outage.REFUSE:
                await api_front.refuse()
                return
            await api_front.open()
            if outage == Outage.ERROR:
                api_front.cut()

        await api_front.open()
        await Front(page, self._settings.page_port).open()
        await Front(add_control(self, on_outage), self._settings.control_port).open()
        followers = [self.local.follow_events(app, self._event) for app in self._settings.workspace.apps]
        await asyncio.gather(*followers)

    def _door(self, handler: Handler) -> Handler:
        """Latency and outages on the bot's way to Slack and back."""

        async def through(request: web.Request) -> web.StreamResponse:
            try:
                await self.faults.travel()
                status = await self.faults.gate()
                if status is not None:
                    self.log.add("outage", method=request.match_info.get("method", request.path), status=status)
                    return web.Response(status=status, text="<html>Slack is having trouble</html>")
                response = await handler(request)
                await self.faults.travel()
                return response
            except CutError:
                self.log.add("cut", method=request.match_info.get("method", request.path))
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=503)

        return through

    def _event(self, app_id: str, payload: Json) -> None:
        event = payload.get("event", {})
        app = next(app for app in self._settings.workspace.apps if app.app_id == app_id)
        if not subscribed(event, app.events):
            return
        if event.get("type") == "app_home_opened":
            view = self.modals.home(event.get("user"), app_id)
            payload = {**payload, "event": event | ({"view": view} if view else {})}
        self.sockets.send_event(app_id, payload)

    async def _reply(self, request: web.Request) -> web.Response:
        """What an app posts to a response address."""
        _, body = await read_args(request)
        began, ticket, ts = time.monotonic(), None, None
        refusal: RefusedError | None = None
        try:
            ticket = self._replies.use(request.match_info["secret"])
            exchange = {"method": "response_url", "channel": ticket.channel, "text": str(body.get("text", ""))}
            await self.faults.hold(Where.BEFORE, exchange)
            ts = await self._replies.reply(ticket, body)
        except RefusedError as refused:
            refusal = refused
        self.log.add(
            "response_url",
            method="response_url",
            app=ticket.app_id if ticket else None,
            channel=ticket.channel if ticket else None,
            user=ticket.user if ticket else None,
            ok=refusal is None,
            error=refusal.error if refusal else None,
            text=body.get("text"),
            blocks=body.get("blocks"),
            ts=ts,
            replace_original=body.get("replace_original"),
            delete_original=body.get("delete_original"),
            seconds=round(time.monotonic() - began, 6),
        )
        if refusal is not None:
            return web.json_response(refusal.body, status=refusal.status if refusal.status != 200 else 400)
        await self.faults.hold(Where.AFTER, exchange)
        return web.Response(text="ok")

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        await self.faults.hold(Where.BEFORE, {"method": "upload"})
        response = await self._pages.serve(request)
        self.log.add("upload", method="upload", status=response.status, bytes=request.content_length)
        await self.faults.hold(Where.AFTER, {"method": "upload"})
        return response

    def _learn_file(self, file: Json) -> None:
        """The page shows a file at its permalink's path, without a token."""
        path = "/" + str(file["permalink"]).removeprefix(self.local.url).lstrip("/")
        for name in ("id", "url_private", "url_private_download", "permalink"):
            page_url = f"http://127.0.0.1:{self._settings.page_port}"
            self._file_paths[str(file[name]).replace(self.local.url, page_url)] = path
