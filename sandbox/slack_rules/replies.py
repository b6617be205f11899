"""Response addresses: five uses in 30 minutes, ephemeral unless said otherwise. Local-slack's never end."""

import time

from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.local import Local
from sandbox.slack_rules.messages import Messages, check_content
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_rules.rules import Rule, Rules
from sandbox.slack_rules.tickets import ResponseTicket, Tickets
from sandbox.slack_workspace import SlackApp, SlackWorkspace


class Replies:
    def __init__(
        self,
        workspace: SlackWorkspace,
        rules: Rules,
        local: Local,
        messages: Messages,
        tickets: Tickets,
        base_url: str,
    ) -> None:
        self._workspace = workspace
        self._rules = rules
        self._local = local
        self._messages = messages
        self._tickets = tickets
        self._base_url = base_url

    def new_url(self, app_id: str, user: str, channel: str, message_ts: str | None, now: float) -> str:
        return f"{self._base_url}/actions/{self._tickets.new_response(app_id, user, channel, message_ts, now)}"

    def use(self, secret: str) -> ResponseTicket:
        """Raises RefusedError."""
        return self._tickets.use_response(secret, time.time(), strict=self._rules.on(Rule.RESPONSE_URLS))

    async def reply(self, ticket: ResponseTicket, body: Json) -> str | None:
        """Post, replace or delete; the ts of what was posted. Raises RefusedError."""
        app = next(app for app in self._workspace.apps if app.app_id == ticket.app_id)
        if body.get("delete_original") and ticket.message_ts:
            await self._call(app, "chat.delete", {"channel": ticket.channel, "ts": ticket.message_ts})
            return ticket.message_ts
        self._check(body)
        if body.get("replace_original") and ticket.message_ts:
            args = {"channel": ticket.channel, "ts": ticket.message_ts, **self._messages.content(body)}
            await self._call(app, "chat.update", args)
            return ticket.message_ts
        return await self.post(app, ticket.user, ticket.channel, body)

    async def post(self, app: SlackApp, user: str, channel: str, body: Json) -> str | None:
        """As an answer to what `user` did: visible to nobody else, unless it says `in_channel`."""
        self._check(body)
        args = {"channel": channel, **self._messages.content(body)}
        if body.get("thread_ts"):
            args["thread_ts"] = body["thread_ts"]
        if body.get("response_type") == "in_channel":
            posted = await self._call(app, "chat.postMessage", args)
            self._messages.posted(channel, posted["ts"], app.app_id)
            return str(posted["ts"])
        posted = await self._call(app, "chat.postEphemeral", {**args, "user": user})
        self._messages.posted(channel, posted["message_ts"], app.app_id, ephemeral=True)
        return str(posted["message_ts"])

    def _check(self, body: Json) -> None:
        if self._rules.on(Rule.LIMITS):
            check_content(body)

    async def _call(self, app: SlackApp, method: str, args: Json) -> Json:
        answer = await self._local.call(method, args, app.bot_token)
        if not answer.get("ok"):
            raise RefusedError(str(answer.get("error")), status=404)
        return answer
