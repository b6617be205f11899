"""What Slack's Web API documents of each method: who may call it, with which scope, how often. Pure data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """`scopes`: any one of them suffices; none means that every token of the right kind may call."""

    per_minute: int
    scopes: tuple[str, ...] = ()
    app_token: bool = False


_TIER_1, _TIER_2, _TIER_3, _TIER_4 = 1, 20, 50, 100
# "Special" tiers: documented as hundreds a minute, or (posting) one a second and channel with bursts, see `pace`.
_HUNDREDS = 300

_CHANNELS = ("channels:read", "groups:read", "im:read", "mpim:read")
_HISTORY = ("channels:history", "groups:history", "im:history", "mpim:history")

METHODS = {
    "api.test": Method(_TIER_4),
    "apps.connections.open": Method(_TIER_3, ("connections:write",), app_token=True),
    "auth.test": Method(_HUNDREDS),
    "bots.info": Method(_TIER_3, ("users:read",)),
    "chat.delete": Method(_TIER_3, ("chat:write",)),
    "chat.getPermalink": Method(_HUNDREDS),
    "chat.meMessage": Method(_TIER_3, ("chat:write",)),
    "chat.postEphemeral": Method(_TIER_4, ("chat:write",)),
    "chat.postMessage": Method(_HUNDREDS, ("chat:write",)),
    "chat.update": Method(_TIER_3, ("chat:write",)),
    "conversations.create": Method(_TIER_2, ("channels:manage", "groups:write", "im:write", "mpim:write")),
    "conversations.history": Method(_TIER_3, _HISTORY),
    "conversations.info": Method(_TIER_3, _CHANNELS),
    "conversations.list": Method(_TIER_2, _CHANNELS),
    "conversations.members": Method(_TIER_4, _CHANNELS),
    "conversations.open": Method(_TIER_3, ("channels:manage", "groups:write", "im:write", "mpim:write")),
    "conversations.replies": Method(_TIER_3, _HISTORY),
    "emoji.list": Method(_TIER_2, ("emoji:read",)),
    "files.completeUploadExternal": Method(_TIER_4, ("files:write",)),
    "files.delete": Method(_TIER_3, ("files:write",)),
    "files.getUploadURLExternal": Method(_TIER_4, ("files:write",)),
    "files.info": Method(_TIER_4, ("files:read",)),
    "files.list": Method(_TIER_3, ("files:read",)),
    "reactions.add": Method(_TIER_3, ("reactions:write",)),
    "reactions.remove": Method(_TIER_2, ("reactions:write",)),
    "team.info": Method(_TIER_3, ("team:read",)),
    "usergroups.list": Method(_TIER_2, ("usergroups:read",)),
    "usergroups.users.list": Method(_TIER_2, ("usergroups:read",)),
    "users.conversations": Method(_TIER_3, _CHANNELS),
    "users.info": Method(_TIER_4, ("users:read",)),
    "users.list": Method(_TIER_2, ("users:read",)),
    "users.lookupByEmail": Method(_TIER_3, ("users:read.email",)),
    "views.open": Method(_TIER_4),
    "views.publish": Method(_TIER_4),
    "views.push": Method(_TIER_4),
    "views.update": Method(_TIER_4),
}

# A bot must be in the channel for these; the others merely need the channel to exist (or name none).
NEEDS_MEMBERSHIP = {
    "chat.meMessage",
    "chat.postEphemeral",
    "chat.postMessage",
    "conversations.history",
    "conversations.replies",
    "files.completeUploadExternal",
    "reactions.add",
    "reactions.remove",
}
NEEDS_CHANNEL = NEEDS_MEMBERSHIP | {
    "chat.delete",
    "chat.getPermalink",
    "chat.update",
    "conversations.info",
    "conversations.members",
}
# Posting takes a channel's name or a user's id too; everything else wants the channel's id.
TAKES_NAME = {"chat.postMessage", "chat.meMessage", "chat.postEphemeral"}
