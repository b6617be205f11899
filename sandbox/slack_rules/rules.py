"""The rules by name. Each can be switched off, and is then as lenient as local-slack."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Rule(StrEnum):
    TOKENS = "tokens"  # not_authed, invalid_auth, not_allowed_token_type
    SCOPES = "scopes"  # missing_scope
    MEMBERSHIP = "membership"  # channel_not_found, not_in_channel, user_not_in_channel
    LIMITS = "limits"  # invalid_blocks, invalid_arguments, no_text, msg_too_long, msg_blocks_too_long …
    CHANNEL_PACE = "channel_pace"  # 429 beyond one message a second and channel
    METHOD_TIERS = "method_tiers"  # 429 beyond a method's calls per minute
    ACK = "ack"  # an envelope not acknowledged in 3 s: operation_timeout for the user, retries of events
    ONE_DELIVERY = "one_delivery"  # each envelope to one connection
    SOCKET_COUNT = "socket_count"  # ten connections at most
    TRIGGERS = "triggers"  # expired_trigger_id, exchanged_trigger_id
    RESPONSE_URLS = "response_urls"  # used_url after five, expired_url after 30 minutes
    VIEW_HASH = "view_hash"  # hash_conflict
    OWN_MESSAGES = "own_messages"  # cant_update_message, cant_delete_message, message_not_found of ephemeral ones
    REACTIONS = "reactions"  # already_reacted, no_reaction
    COMMANDS = "commands"  # only registered slash commands reach an app
    REQUIRED_INPUTS = "required_inputs"  # a modal is not submitted while a required input is empty


@dataclass
class Rules:
    off: set[Rule] = field(default_factory=set)

    def on(self, rule: Rule) -> bool:
        return rule not in self.off

    def switch(self, names: Iterable[str], *, on: bool) -> None:
        """Raises ValueError for a name that is no rule."""
        chosen = {Rule(name) for name in names}
        self.off = self.off - chosen if on else self.off | chosen
