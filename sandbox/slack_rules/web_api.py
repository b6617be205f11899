"""Slack's Web API as the bot sees it: the rules in Slack's order, then local-slack, then an answer in Slack's shape."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sandbox.faults import Faults, Where
from sandbox.request_log import RequestLog
from sandbox.slack_rules.access import Caller, Channels, caller, check_scope, check_token_kind
from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.local import Local
from sandbox.slack_rules.messages import Messages, check_content, edited, json_args, page
from sandbox.slack_rules.methods import NEEDS_CHANNEL, NEEDS_MEMBERSHIP, TAKES_NAME
from sandbox.slack_rules.modals import Modals, check_view
from sandbox.slack_rules.pace import Pace
from sandbox.slack_rules.pages import Pages
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_rules.rules import Rule, Rules
from sandbox.slack_rules.sockets import Sockets
from sandbox.slack_rules.tickets import Tickets
from sandbox.slack_workspace import SlackWorkspace

_POSTING = {"chat.postMessage", "chat.meMessage"}
_WITH_CONTENT = _POSTING | {"chat.postEphemeral", "chat.update"}


@dataclass
class Call:
    method: str
    args: Json
    who: Caller
    channel: str | None = None  # its id, once known
    noted: Json = field(default_factory=dict)  # for the log

    @property
    def app_id(self) -> str:
        return self.who.app.app_id


class WebApi:
    def __init__(
        self,
        workspace: SlackWorkspace,
        rules: Rules,
        faults: Faults,
        log: RequestLog,
        local: Local,
        *,
        channels: Channels,
        messages: Messages,
        modals: Modals,
        tickets: Tickets,
        pace: Pace,
        sockets: Sockets,
        pages: Pages,
        socket_url: str,
        rewrite: Callable[[str], str],
        on_file: Callable[[Json], None],
    ) -> None:
        """`rewrite` turns local-slack's addresses in a JSON text into ours; `on_file` is told of each uploaded file."""
        self._workspace = workspace
        self._rules = rules
        self._faults = faults
        self._log = log
        self._local = local
        self._channels = channels
        self._messages = messages
        self._modals = modals
        self._tickets = tickets
        self._pace = pace
        self._sockets = sockets
        self._pages = pages
        self._socket_url = socket_url
        self._rewrite = rewrite
        self._on_file = on_file
        self._ours: dict[str, Callable[[Call], Awaitable[Json]]] = {
            "api.test": self._api_test,
            "apps.connections.open": self._connections_open,
            "usergroups.list": self._user_groups,
            "usergroups.users.list": self._user_group_members,
            "views.open": self._views_open,
            "views.push": self._views_push,
            "views.update": self._views_update,
            "views.publish": self._views_publish,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
        }

    async def handle(self, request: web.Request) -> web.Response:
        """The caller has let the request in (outages) and adds the latency of both ways."""
        method = request.match_info["method"]
        token, args = await read_args(request)
        began = time.monotonic()
        call: Call | None = None
        status, retry_after = 200, None
        try:
            call = self._let_in(method, args, token)
            call.channel = await self._channel(call)
            await self._check(call)
            await self._faults.hold(Where.BEFORE, _exchange(call))
            answer = await self._carry_out(call)
        except RefusedError as refused:
            answer, status, retry_after = refused.body, refused.status, refused.retry_after_seconds
        self._note(method, call, answer, status, retry_after, began)
        if call is not None and answer.get("ok"):
            await self._faults.hold(Where.AFTER, _exchange(call))
        return self._response(call, answer, status, retry_after)

    # --- before it is done

    def _let_in(self, method: str, args: Json, token: str | None) -> Call:
        who = caller(self._workspace, token, strict=self._rules.on(Rule.TOKENS))
        if self._rules.on(Rule.TOKENS):
            check_token_kind(who, method)
        if self._rules.on(Rule.SCOPES):
            check_scope(who, method)
        if self._rules.on(Rule.METHOD_TIERS):
            _check_pace(self._pace.call(who.app.app_id, method, time.monotonic()))
        return Call(method, args, who)

    async def _channel(self, call: Call) -> str | None:
        """The id of the channel that is meant; raises RefusedError if the bot cannot use it."""
        named = call.args.get("channel") or call.args.get("channel_id")
        if call.method not in NEEDS_CHANNEL or (call.method.startswith("files.") and not named):
            return None
        named = str(named or "")
        if call.method in TAKES_NAME and named.startswith("U"):
            opened = await self._local.call("conversations.open", {"users": named}, call.who.app.bot_token)
            named = opened["channel"]["id"]
        found = self._channels.get(named)
        if found is None and call.method in TAKES_NAME:
            found = self._channels.named(named)
        if found is None:
            self._channels.learn(await self._local.channels())
            found = self._channels.get(named)
        if not self._rules.on(Rule.MEMBERSHIP):
            return found.id if found else named
        channel = self._channels.check_visible(found, call.who.app.bot_user)
        if call.method in NEEDS_MEMBERSHIP:
            self._channels.check_member(channel, call.who.app.bot_user)
        if call.method == "chat.postEphemeral" and call.args.get("user") not in channel.members:
            raise RefusedError("user_not_in_channel")
        return channel.id

    async def _check(self, call: Call) -> None:
        if self._rules.on(Rule.LIMITS) and call.method in _WITH_CONTENT:
            check_content(call.args, edit=call.method == "chat.update")
        if self._rules.on(Rule.LIMITS) and call.method.startswith("views."):
            check_view(call.args.get("view"), "home" if call.method == "views.publish" else "modal")
        if call.method in ("chat.update", "chat.delete", "reactions.add", "reactions.remove"):
            await self._check_message(call)
        if call.method in _POSTING and call.channel and self._rules.on(Rule.CHANNEL_PACE):
            _check_pace(self._pace.post(call.app_id, call.channel, time.monotonic()))

    async def _check_message(self, call: Call) -> None:
        ts = str(call.args.get("ts") or call.args.get("timestamp") or "")
        stored = await self._local.message(call.channel or "", ts)
        if call.method.startswith("chat.") and self._rules.on(Rule.OWN_MESSAGES):
            refusal = "cant_update_message" if call.method == "chat.update" else "cant_delete_message"
            self._messages.check_own(call.channel or "", ts, call.app_id, stored, refusal)
        if call.method.startswith("reactions.") and stored is not None and self._rules.on(Rule.REACTIONS):
            mine = any(
                reaction["name"] == call.args.get("name") and call.who.app.bot_user in reaction["users"]
                for reaction in stored.get("reactions") or ()
            )
            if mine == (call.method == "reactions.add"):
                raise RefusedError("already_reacted" if mine else "no_reaction")
        if call.method == "chat.update" and stored is not None:
            # Local-slack drops what an edit does not name.
            call.args = {"ts": ts, **edited(self._messages.content(call.args), stored)}

    # --- doing it

    async def _carry_out(self, call: Call) -> Json:
        ours = self._ours.get(call.method)
        if ours is not None:
            return await ours(call)
        args = dict(call.args)
        if call.method in _WITH_CONTENT:
            for name in ("text", "blocks", "attachments", "markdown_text"):
                args.pop(name, None)
            args |= self._messages.content(call.args)
        if call.channel:
            args["channel_id" if call.method.startswith("files.") else "channel"] = call.channel
        answer = await self._local.call(call.method, args, call.who.app.bot_token)
        if answer.get("ok"):
            self._remember(call, answer)
        return answer

    def _remember(self, call: Call, answer: Json) -> None:
        if call.method in ("chat.postMessage", "chat.meMessage"):
            self._messages.posted(answer["channel"], answer["ts"], call.app_id)
            if call.args.get("thread_ts") and is_true(call.args.get("reply_broadcast")):
                self._messages.broadcast(answer["channel"], answer["ts"])
                self._pages.show_broadcast(answer["message"])
        elif call.method == "chat.postEphemeral":
            self._messages.posted(call.channel or "", answer["message_ts"], call.app_id, ephemeral=True)
        elif call.method in ("conversations.list", "conversations.info", "users.conversations"):
            for channel in answer.get("channels") or [answer["channel"]]:
                channel["is_member"] = self._channels.has(channel["id"], call.who.app.bot_user)
        elif call.method == "files.completeUploadExternal":
            for file in answer["files"]:
                self._on_file(file)

    async def _api_test(self, call: Call) -> Json:
        return {"ok": True, "args": call.args}

    async def _connections_open(self, call: Call) -> Json:
        ticket = self._sockets.new_ticket(call.app_id)
        return {"ok": True, "url": f"{self._socket_url}?ticket={ticket}&app_id={call.app_id}"}

    async def _user_groups(self, call: Call) -> Json:
        with_users = is_true(call.args.get("include_users"))
        groups = [
            {
                "id": group.id,
                "team_id": self._workspace.team_id,
                "is_usergroup": True,
                "name": group.name,
                "description": "",
                "handle": group.handle,
                "is_external": False,
                "date_delete": 0,
                "user_count": len(group.users),
            }
            | ({"users": list(group.users)} if with_users else {})
            for group in self._workspace.user_groups
        ]
        return {"ok": True, "usergroups": groups}

    async def _user_group_members(self, call: Call) -> Json:
        for group in self._workspace.user_groups:
            if group.id == call.args.get("usergroup"):
                return {"ok": True, "users": list(group.users)}
        raise RefusedError("no_such_subteam")

    async def _views_open(self, call: Call) -> Json:
        user = self._exchange_trigger(call)
        view = self._modals.open(call.who.app, user, call.args["view"])
        self._pages.show_modals(user)
        return {"ok": True, "view": view}

    async def _views_push(self, call: Call) -> Json:
        user = self._exchange_trigger(call)
        view = self._modals.push(call.who.app, user, call.args["view"])
        self._pages.show_modals(user)
        return {"ok": True, "view": view}

    def _exchange_trigger(self, call: Call) -> str:
        trigger = self._tickets.exchange(
            call.args.get("trigger_id"), call.app_id, time.time(), strict=self._rules.on(Rule.TRIGGERS)
        )
        call.noted["user"] = trigger.user
        return trigger.user

    async def _views_update(self, call: Call) -> Json:
        user, view = self._modals.update(
            call.who.app,
            call.args["view"],
            view_id=call.args.get("view_id"),
            external_id=call.args.get("external_id"),
            view_hash=call.args.get("hash") if self._rules.on(Rule.VIEW_HASH) else None,
        )
        call.noted["user"] = user
        self._pages.show_modals(user)
        return {"ok": True, "view": view}

    async def _views_publish(self, call: Call) -> Json:
        user = str(call.args.get("user_id"))
        if user not in {person.id for person in self._workspace.users}:
            raise RefusedError("invalid_arguments")
        view_hash = call.args.get("hash") if self._rules.on(Rule.VIEW_HASH) else None
        view = self._modals.publish(call.who.app, user, call.args["view"], view_hash)
        self._pages.show_home(user, call.app_id, view)
        return {"ok": True, "view": view}

    async def _history(self, call: Call) -> Json:
        channel = call.channel or ""
        listed = await self._local.call(call.method, {"channel": channel}, call.who.app.bot_token)
        broadcast = [
            {**message, "subtype": "thread_broadcast"}
            for message in await self._local.messages(channel)
            if self._messages.is_broadcast(channel, message["ts"])
        ]
        newest_first = sorted([*listed["messages"], *broadcast], key=lambda message: float(message["ts"]), reverse=True)
        return {"ok": True, **page(newest_first, call.args, default_limit=100)}

    async def _replies(self, call: Call) -> Json:
        args = {"channel": call.channel, "ts": call.args.get("ts")}
        listed = await self._local.call(call.method, args, call.who.app.bot_token)
        if not listed["messages"]:
            raise RefusedError("thread_not_found")
        return {"ok": True, **page(listed["messages"], call.args, default_limit=1000)}

    # --- after it is done

    def _note(
        self, method: str, call: Call | None, answer: Json, status: int, retry_after: int | None, began: float
    ) -> None:
        args = call.args if call else {}
        blocks, view = args.get("blocks"), args.get("view")
        self._log.add(
            "api",
            method=method,
            app=call.app_id if call else None,
            channel=call.channel if call else None,
            ok=bool(answer.get("ok")),
            error=answer.get("error"),
            errors=answer.get("errors"),
            status=status,
            retry_after=retry_after,
            ts=answer.get("ts") or answer.get("message_ts"),
            thread_ts=args.get("thread_ts"),
            text=args.get("text"),
            blocks=blocks,
            block_ids=_block_ids(blocks),
            view_id=(answer.get("view") or {}).get("id"),
            callback_id=view.get("callback_id") if isinstance(view, dict) else None,
            user=(call.noted.get("user") if call else None) or args.get("user") or args.get("user_id"),
            seconds=round(time.monotonic() - began, 6),
        )

    def _response(self, call: Call | None, answer: Json, status: int, retry_after: int | None) -> web.Response:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if call is not None:
            headers["x-oauth-scopes"] = ",".join(call.who.scopes)
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return web.Response(status=status, text=self._rewrite(json.dumps(answer)), headers=headers)


def is_true(value: Any) -> bool:
    """As a form or JSON spells it."""
    return str(value).lower() in ("1", "true")


def _check_pace(wait: int | None) -> None:
    if wait is not None:
        raise RefusedError("ratelimited", status=429, retry_after_seconds=wait)


def _exchange(call: Call) -> dict[str, str]:
    named = {name: call.args.get(name) for name in ("text", "thread_ts", "ts", "view_id")}
    exchange = {"method": call.method, "app": call.app_id, "channel": call.channel, **named}
    return {name: str(value) for name, value in exchange.items() if value is not None}


def _block_ids(blocks: Any) -> list[str] | None:
    if not isinstance(blocks, list):
        return None
    return [block["block_id"] for block in blocks if isinstance(block, dict) and block.get("block_id")]


async def read_args(request: web.Request) -> tuple[str | None, Json]:
    """Token and arguments, from wherever Slack takes them: the query, a form, JSON; and the Authorization header."""
    args: Json = dict(request.query)
    kind = request.content_type
    if request.method == "POST" and kind == "application/json":
        try:
            sent = await request.json()
        except ValueError:
            sent = None
        args |= sent if isinstance(sent, dict) else {}
    elif request.method == "POST":
        args |= {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    in_body = args.pop("token", None)
    return (token if scheme == "Bearer" else in_body) or None, json_args(args)
