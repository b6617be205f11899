"""What a person does in the page: clicks, submits, closes, types a command. Each becomes an envelope to an app."""

import re
import time
from collections.abc import Callable
from typing import Any

from sandbox.request_log import RequestLog
from sandbox.slack_rules import payloads
from sandbox.slack_rules.access import Channels
from sandbox.slack_rules.inputs import Json, Values
from sandbox.slack_rules.local import Local
from sandbox.slack_rules.modals import Modals
from sandbox.slack_rules.pages import Pages
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_rules.replies import Replies
from sandbox.slack_rules.rules import Rule, Rules
from sandbox.slack_rules.sockets import Lost, LostError, Sockets
from sandbox.slack_rules.tickets import Tickets
from sandbox.slack_workspace import SlackApp, SlackWorkspace

_MENTION = re.compile(r"<@([A-Z0-9]+)>")
_TROUBLE = "We had some trouble connecting. Try again?"


class Interactions:
    def __init__(
        self,
        workspace: SlackWorkspace,
        rules: Rules,
        log: RequestLog,
        local: Local,
        channels: Channels,
        modals: Modals,
        tickets: Tickets,
        sockets: Sockets,
        replies: Replies,
        pages: Callable[[], Pages],
    ) -> None:
        """`pages` is asked late: a page reports to us, and we show things on it."""
        self._workspace = workspace
        self._rules = rules
        self._log = log
        self._local = local
        self._channels = channels
        self._modals = modals
        self._tickets = tickets
        self._sockets = sockets
        self._replies = replies
        self._pages = pages

    async def act(self, frame: Json) -> None:
        """A frame of the page in which a person did something."""
        user = frame["user"]
        match frame["t"]:
            case "block_action" if frame.get("messageTs"):
                await self.click(user, frame["channel"], frame["messageTs"], frame["action"])
            case "block_action":
                await self.click_home(user, frame["appId"], frame["action"])
            case "view_submit":
                await self.submit(user, frame.get("values") or {})
            case "view_close":
                await self.close(user)
            case "slash_command":
                text = frame.get("text") or ""
                await self.command(user, frame["channel"], frame["command"], text, frame.get("appId"))

    async def click(self, user: str, channel: str, ts: str, action: Json) -> None:
        message = await self._local.message(channel, ts)
        if message is None or not _is_choice(action):
            return
        app = self._app(message.get("app_id"))
        now = time.time()
        payload = payloads.message_action(
            self._workspace,
            app,
            user,
            channel=self._channel(channel),
            message=message,
            action=action,
            trigger_id=self._tickets.new_trigger(app.app_id, user, now),
            response_url=self._replies.new_url(app.app_id, user, channel, ts, now),
        )
        about = {"user": user, "channel": channel, "message_ts": ts, "action_id": action.get("action_id")}
        await self._send(app, payload, about)

    async def click_home(self, user: str, app_id: str, action: Json) -> None:
        app, view = self._app(app_id), self._modals.home(user, app_id)
        if view is None or not _is_choice(action):
            return
        trigger_id = self._tickets.new_trigger(app.app_id, user, time.time())
        payload = payloads.home_action(self._workspace, app, user, view=view, action=action, trigger_id=trigger_id)
        await self._send(app, payload, {"user": user, "view_id": view["id"], "action_id": action.get("action_id")})

    async def submit(self, user: str, touched: Values) -> None:
        try:
            view, missing = self._modals.submitted(user, touched)
        except RefusedError:
            return  # it was closed in the meantime
        if missing and self._rules.on(Rule.REQUIRED_INPUTS):
            self._log.add("not_submitted", user=user, view_id=view["id"], errors=missing)
            self._pages().show_errors(user, missing)
            return
        app = self._app(view["app_id"])
        trigger_id = self._tickets.new_trigger(app.app_id, user, time.time())
        payload = payloads.view_submission(self._workspace, app, user, view=view, trigger_id=trigger_id)
        about = {"user": user, "view_id": view["id"], "callback_id": view["callback_id"]}
        try:
            answer = await self._sockets.send(app.app_id, "interactive", payload, about=_kind(payload, about))
            errors = self._modals.answer(app, user, view["id"], answer)
        except LostError as lost:
            self._timed_out(user, "view_submission", lost)
            errors = {"operation_timeout": _TROUBLE}
        except RefusedError as refused:
            self._log.add("bad_answer", user=user, view_id=view["id"], error=refused.error, **refused.more)
            errors = {refused.error: _TROUBLE}
        if errors:
            self._pages().show_errors(user, errors)
        else:
            self._pages().show_modals(user)

    async def close(self, user: str) -> None:
        closed = self._modals.close_top(user)
        self._pages().show_modals(user)
        if closed is None or not closed[0].get("notify_on_close"):
            return
        view, is_cleared = closed
        app = self._app(view["app_id"])
        payload = payloads.view_closed(self._workspace, app, user, view=view, is_cleared=is_cleared)
        await self._send(app, payload, {"user": user, "view_id": view["id"]})

    async def command(self, user: str, channel: str, command: str, text: str, app_id: str | None = None) -> None:
        app = next((app for app in self._workspace.apps if command in app.commands), None)
        if app is None and self._rules.on(Rule.COMMANDS):
            self._log.add("unknown_command", user=user, channel=channel, command=command)
            self._notice(user, channel, f"`{command}` is not a valid command.")
            return
        app = app or self._app(app_id)
        now = time.time()
        payload = payloads.slash_command(
            self._workspace,
            app,
            user,
            channel=self._channel(channel),
            command=command,
            text=self._escaped(text) if app.escapes_commands else self._plain(text),
            trigger_id=self._tickets.new_trigger(app.app_id, user, now),
            response_url=self._replies.new_url(app.app_id, user, channel, None, now),
        )
        about = {"user": user, "channel": channel, "command": command, "text": text}
        try:
            answer = await self._sockets.send(app.app_id, "slash_commands", payload, about=about)
        except LostError as lost:
            self._timed_out(user, command, lost)
            error = "dispatch_failed" if lost.why == Lost.NOBODY else "operation_timeout"
            self._notice(user, channel, f"{command} failed with the error “{error}”")
            return
        if answer and (answer.get("text") or answer.get("blocks")):
            await self._replies.post(app, user, channel, answer)

    async def _send(self, app: SlackApp, payload: Json, about: Json) -> None:
        try:
            await self._sockets.send(app.app_id, "interactive", payload, about=_kind(payload, about))
        except LostError as lost:
            self._timed_out(about["user"], payload["type"], lost)

    def _timed_out(self, user: str, what: str, lost: LostError) -> None:
        """What the person sees: a warning sign beside the button, or a notice."""
        self._log.add("operation_timeout", user=user, method=what, error=lost.why)

    def _notice(self, user: str, channel: str, text: str) -> None:
        self._pages().show_notice(user, channel, f"{time.time():.6f}", text)

    def _escaped(self, text: str) -> str:
        """`<@U1>` of the page as `<@U1|name>`: with `should_escape` Slack adds the name."""
        names = {person.id: person.name for person in self._workspace.users}
        return _MENTION.sub(lambda found: f"<@{found[1]}|{names.get(found[1], found[1])}>", text)

    def _plain(self, text: str) -> str:
        names = {person.id: person.name for person in self._workspace.users}
        return _MENTION.sub(lambda found: f"@{names.get(found[1], found[1])}", text)

    def _app(self, app_id: Any) -> SlackApp:
        return next((app for app in self._workspace.apps if app.app_id == app_id), self._workspace.apps[0])

    def _channel(self, channel_id: str) -> Json:
        channel = self._channels.get(channel_id)
        return {"id": channel_id, "name": channel.name if channel else channel_id}


def _kind(payload: Json, about: Json) -> Json:
    return {"type": payload["type"], **about}


def _is_choice(action: Json) -> bool:
    """The page's menus can be put back to their empty first line; Slack's cannot."""
    return action.get("type") not in ("overflow", "static_select") or action.get("selected_option") is not None
