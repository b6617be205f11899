"""Who and what is in the sandbox's Slack: people, channels, user groups, apps. Local-slack and the rules read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from ruamel.yaml import YAML

MANIFEST = Path(__file__).parent.parent / "deploy" / "slack-manifest.yaml"


@dataclass(frozen=True)
class SlackApp:
    app_id: str = "A01ONCALL"
    bot_user: str = "U0BOT"
    bot_name: str = "vllm-oncall"
    bot_token: str = "xoxb-sandbox-bot"
    app_token: str = "xapp-sandbox-app"
    signing_secret: str = "sandbox-signing-secret"
    commands: tuple[str, ...] = ("/vllm",)
    escapes_commands: bool = True  # mentions in a command's text arrive as ids
    scopes: tuple[str, ...] = ("chat:write", "commands")
    events: tuple[str, ...] = ()  # which are subscribed to
    app_scopes: tuple[str, ...] = ("connections:write",)

    @classmethod
    def installed(cls, manifest: Path = MANIFEST) -> "SlackApp":
        """The app as a workspace gets it that installs the manifest: its scopes, commands and events, and no more."""
        asked = YAML(typ="safe").load(manifest)
        commands = asked["features"].get("slash_commands") or []
        return cls(
            bot_name=asked["features"]["bot_user"]["display_name"],
            commands=tuple(command["command"] for command in commands),
            escapes_commands=any(command.get("should_escape") for command in commands),
            scopes=tuple(asked["oauth_config"]["scopes"]["bot"]),
            events=tuple(asked["settings"].get("event_subscriptions", {}).get("bot_events") or ()),
        )

    @property
    def bot_id(self) -> str:
        """As local-slack derives it from the bot's user."""
        return "B" + self.bot_user[1:]


@dataclass(frozen=True)
class SlackUser:
    id: str
    name: str
    real_name: str
    email: str | None = None
    tz: str = "Etc/UTC"


@dataclass(frozen=True)
class SlackChannel:
    id: str
    name: str
    members: tuple[str, ...]
    is_private: bool = False


@dataclass(frozen=True)
class UserGroup:
    id: str
    handle: str
    name: str
    users: tuple[str, ...]


@dataclass(frozen=True)
class SlackWorkspace:
    users: tuple[SlackUser, ...]
    channels: tuple[SlackChannel, ...]
    apps: tuple[SlackApp, ...] = (SlackApp(),)
    user_groups: tuple[UserGroup, ...] = ()
    name: str = "Sandbox"
    domain: str = "sandbox"
    team_id: str = "T01SANDBOX"

    def user(self, name: str) -> SlackUser:
        """By name; KeyError names those that exist."""
        for user in self.users:
            if user.name == name:
                return user
        raise KeyError(f"no Slack user {name!r} in the sandbox; there are {[user.name for user in self.users]}")

    def channel(self, name: str) -> SlackChannel:
        for channel in self.channels:
            if channel.name == name:
                return channel
        raise KeyError(f"no channel {name!r} in the sandbox; there are {[channel.name for channel in self.channels]}")

    def local_slack_config(self) -> dict[str, Any]:
        """In local-slack's own words (its configuration may be JSON)."""
        return {
            "workspace": {"name": self.name, "domain": self.domain, "teamId": self.team_id},
            "apps": [
                {
                    "appId": app.app_id,
                    "botUserId": app.bot_user,
                    "botName": app.bot_name,
                    "botToken": app.bot_token,
                    "appToken": app.app_token,
                    "signingSecret": app.signing_secret,
                    "mode": "socket",
                }
                for app in self.apps
            ],
            "users": [
                {"id": user.id, "name": user.name, "real_name": user.real_name, "tz": user.tz}
                | ({"email": user.email} if user.email else {})
                for user in self.users
            ],
            "channels": [
                {
                    "id": channel.id,
                    "name": channel.name,
                    "is_private": channel.is_private,
                    "members": list(channel.members),
                }
                for channel in self.channels
            ],
        }


workspace_json: TypeAdapter[SlackWorkspace] = TypeAdapter(SlackWorkspace)


def demo_workspace(app: SlackApp | None = None) -> SlackWorkspace:
    """Alice is on call, carol leads the SREs, bob has no role; the bot, whose app is our manifest's unless another one
    is given, is a member of everything but #random."""
    alice = SlackUser("U01ALICE", "alice", "Alice Anders", "alice@example.com")
    bob = SlackUser("U02BOB", "bob", "Bob Brandt", "bob@example.com")
    carol = SlackUser("U03CAROL", "carol", "Carol Conti", "carol@example.com")
    app = app or SlackApp.installed()
    everybody = (alice.id, bob.id, carol.id)
    return SlackWorkspace(
        users=(alice, bob, carol),
        channels=(
            SlackChannel("C01INCCHAT", "inc-chat", (*everybody, app.bot_user)),
            SlackChannel("C02INCCODE", "inc-code", (*everybody, app.bot_user)),
            SlackChannel("C03ONCALL", "oncall", (*everybody, app.bot_user)),
            SlackChannel("C04RANDOM", "random", everybody),
        ),
        apps=(app,),
        user_groups=(
            UserGroup("S01ONCALL", "ml-oncall", "ML on-call", (alice.id,)),
            UserGroup("S02LEADS", "sre-leads", "SRE leads", (carol.id,)),
        ),
    )
