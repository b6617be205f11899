"""The browsers: local-slack's page, with modals, Home tabs and clicks handled by the rules instead of by local-slack.

A browser opened on `/?as=alice` acts as that user from the start. It then sees that user's modals and ephemeral
messages only; local-slack itself shows everybody everything.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from sandbox.slack_rules.display import Display
from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.local import Local
from sandbox.slack_rules.messages import Messages
from sandbox.slack_rules.modals import Modals
from sandbox.slack_workspace import SlackWorkspace

_COOKIE = "acting_user"
_COPY = "000"  # ends the ts of a broadcast reply's copy in the channel
# Frames that the rules send themselves.
_OURS = {"view", "view_errors", "home", "socket_status"}


@dataclass(eq=False)
class Page:
    ws: web.WebSocketResponse
    user: str


class Pages:
    def __init__(
        self,
        workspace: SlackWorkspace,
        local: Local,
        modals: Modals,
        messages: Messages,
        display: Display,
        *,
        connected: Callable[[str], bool],
        on_act: Callable[[Json], Awaitable[None]],
    ) -> None:
        """`connected(app_id)`: has the bot a socket? `on_act` is given each frame in which a person does something."""
        self._workspace = workspace
        self._local = local
        self._modals = modals
        self._messages = messages
        self._display = display
        self._connected = connected
        self._on_act = on_act
        self._pages: set[Page] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the rules tell the browsers

    def show_modals(self, user: str) -> None:
        stack = [self._display.view(view) for view in self._modals.stack(user)]
        self._broadcast({"t": "view", "stack": stack}, user)

    def show_errors(self, user: str, errors: dict[str, str]) -> None:
        self._broadcast({"t": "view_errors", "errors": errors}, user)

    def show_home(self, user: str, app_id: str, view: Json) -> None:
        self._broadcast({"t": "home", "user": user, "appId": app_id, "view": self._display.view(view)})

    def show_connected(self, app_id: str, connected: bool) -> None:
        self._broadcast({"t": "socket_status", "appId": app_id, "connected": connected})

    def show_notice(self, user: str, channel: str, ts: str, text: str) -> None:
        """What Slackbot says to one person; like all ephemeral messages it is gone after a reload."""
        message = {"type": "message", "subtype": "ephemeral", "channel": channel, "ts": ts, "text": text}
        self._broadcast({"t": "message", "message": {**message, "user": "USLACKBOT", "username": "Slackbot"}}, user)

    def show_broadcast(self, reply: Json) -> None:
        """A reply that was sent to the channel as well: the page keeps replies in their threads."""
        self._broadcast({"t": "message", "message": self._in_channel(reply)})

    def _in_channel(self, reply: Json) -> Json:
        """The reply as a message of the channel, under a ts of its own (the page knows a message by its ts)."""
        said = "_replied to a thread_"
        copy = {name: value for name, value in self._display.message(reply).items() if name != "thread_ts"}
        if copy.get("blocks"):
            note = {"type": "context", "elements": [{"type": "mrkdwn", "text": said}]}
            copy["blocks"] = [note, *copy["blocks"]]
        return {**copy, "ts": reply["ts"] + _COPY, "text": f"{said}\n{copy.get('text', '')}"}

    def _broadcast(self, frame: Json, user: str | None = None) -> None:
        text = json.dumps(frame)
        for page in self._pages:
            if user is None or page.user == user:
                self._start(_send(page.ws, text))

    # --- HTTP

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Everything but the page's socket passes through."""
        async with self._local.session.request(
            request.method,
            self._local.url + request.raw_path,
            data=await request.read(),
            headers={name: value for name, value in request.headers.items() if name in ("Content-Type", "Range")},
        ) as answer:
            response = web.Response(
                status=answer.status,
                body=await answer.read(),
                headers={"Content-Type": answer.headers.get("Content-Type", "application/octet-stream")},
            )
        acting = self._named(request.query.get("as"))
        if acting is not None:
            response.set_cookie(_COOKIE, acting)
        return response

    def _named(self, name: str | None) -> str | None:
        return next((user.id for user in self._workspace.users if name in (user.id, user.name)), None)

    # --- the page's socket

    async def serve_socket(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(max_msg_size=2**26)
        await ws.prepare(request)
        page = Page(ws, self._named(request.cookies.get(_COOKIE)) or self._workspace.users[0].id)
        self._pages.add(page)
        try:
            async with self._local.session.ws_connect(f"{self._local.url}/ui", max_msg_size=2**26) as local:
                to_browser = asyncio.create_task(self._to_browser(page, local))
                try:
                    await self._from_browser(page, local)
                finally:
                    to_browser.cancel()
        except (aiohttp.ClientError, OSError) as error:
            print(f"local-slack's page is away: {error}", flush=True)
        finally:
            self._pages.discard(page)
            await ws.close()  # the page tries again every second
        return ws

    async def _to_browser(self, page: Page, local: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in local:
            for shown in self._shown(page, json.loads(frame.data)):
                await _send(page.ws, json.dumps(shown))
        await page.ws.close()

    def _shown(self, page: Page, frame: Json) -> list[Json]:
        kind = frame.get("t")
        if kind == "init":
            return [{"t": "init", "state": self._state(page, frame["state"])}]
        if kind in ("message", "message_update"):
            message = frame["message"]
            if not _may_see(page, message):
                return []
            return [{**frame, "message": shown} for shown in self._shown_message(message)]
        return [] if kind in _OURS else [frame]

    def _shown_message(self, message: Json) -> list[Json]:
        shown = [self._display.message(message)]
        if self._messages.is_broadcast(message["channel"], message["ts"]):
            shown.append(self._in_channel(message))
        return shown

    def _state(self, page: Page, state: Json) -> Json:
        homes = {
            user: {app_id: self._display.view(view) for app_id, view in views.items()}
            for user, views in self._modals.homes().items()
        }
        messages = {
            channel: [shown for message in listed if _may_see(page, message) for shown in self._shown_message(message)]
            for channel, listed in state["messages"].items()
        }
        return {
            **state,
            "apps": [{**app, "connected": self._connected(app["appId"])} for app in state["apps"]],
            # The page acts as the first person in this list.
            "users": sorted(state["users"], key=lambda user: user["id"] != page.user),
            "messages": messages,
            "modalStack": [self._display.view(view) for view in self._modals.stack(page.user)],
            "homeViews": homes,
        }

    async def _from_browser(self, page: Page, local: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in page.ws:
            if frame.type != WSMsgType.TEXT:
                continue
            asked = json.loads(frame.data)
            page.user = asked.get("user", page.user)
            asked |= {name: asked[name].removesuffix(_COPY) for name in ("messageTs", "ts") if asked.get(name)}
            if asked.get("t") in ("block_action", "view_submit", "view_close", "slash_command"):
                self._start(self._on_act(asked))
            else:
                await local.send_str(json.dumps(asked))

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # or the loop may drop it
        task.add_done_callback(self._tasks.discard)


def _may_see(page: Page, message: Json) -> bool:
    return message.get("subtype") != "ephemeral" or message.get("ephemeral_to") in (None, page.user)


async def _send(ws: web.WebSocketResponse, text: str) -> None:
    with suppress(ConnectionError):
        await ws.send_str(text)
