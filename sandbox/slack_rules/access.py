"""Who calls, and may they: tokens, scopes, and which channels an app can see and post to. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.slack_rules.methods import METHODS
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_workspace import SlackApp, SlackChannel, SlackWorkspace


@dataclass(frozen=True)
class Caller:
    app: SlackApp
    is_app_token: bool

    @property
    def scopes(self) -> tuple[str, ...]:
        return self.app.app_scopes if self.is_app_token else self.app.scopes


def caller(workspace: SlackWorkspace, token: str | None, *, strict: bool) -> Caller:
    """Raises RefusedError for no token or an unknown one; without `strict` both are the first app's."""
    for app in workspace.apps:
        if token in (app.bot_token, app.app_token):
            return Caller(app, is_app_token=token == app.app_token)
    if strict:
        raise RefusedError("invalid_auth" if token else "not_authed")
    return Caller(workspace.apps[0], is_app_token=False)


def check_token_kind(who: Caller, method: str) -> None:
    known = METHODS.get(method)
    if known is not None and method != "auth.test" and known.app_token != who.is_app_token:
        raise RefusedError("not_allowed_token_type")


def check_scope(who: Caller, method: str) -> None:
    known = METHODS.get(method)
    if known is None or not known.scopes or set(known.scopes) & set(who.scopes):
        return
    raise RefusedError("missing_scope", needed=",".join(known.scopes), provided=",".join(who.scopes))


@dataclass
class Channels:
    """The channels there are, and who is in them. Local-slack may make more (direct messages, created ones)."""

    _by_id: dict[str, SlackChannel] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: SlackWorkspace) -> "Channels":
        return cls({channel.id: channel for channel in workspace.channels})

    def learn(self, listed: Iterable[dict[str, Any]]) -> None:
        """Take over channels as local-slack lists them."""
        for channel in listed:
            self._by_id[channel["id"]] = SlackChannel(
                channel["id"], channel["name"], tuple(channel["members"]), bool(channel.get("is_private"))
            )

    def get(self, channel_id: str) -> SlackChannel | None:
        return self._by_id.get(channel_id)

    def named(self, name: str) -> SlackChannel | None:
        wanted = name.removeprefix("#")
        return next((channel for channel in self._by_id.values() if channel.name == wanted), None)

    def has(self, channel_id: str, user: str) -> bool:
        channel = self._by_id.get(channel_id)
        return channel is not None and user in channel.members

    def check_visible(self, channel: SlackChannel | None, bot_user: str) -> SlackChannel:
        """A private channel that the bot is not in does not exist for it."""
        if channel is None or (channel.is_private and bot_user not in channel.members):
            raise RefusedError("channel_not_found")
        return channel

    def check_member(self, channel: SlackChannel, bot_user: str) -> None:
        if bot_user not in channel.members:
            raise RefusedError("not_in_channel")
