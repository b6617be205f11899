"""Messages: what Slack refuses in one, whose it is, and how history is cut into pages."""

import json
from dataclasses import dataclass, field
from typing import Any

from sandbox.slack_rules.ids import with_ids
from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.limits import MARKDOWN_TEXT, MESSAGE_TEXT, TOTAL_TEXT, block_problems, total_text
from sandbox.slack_rules.refused import RefusedError, with_messages

ATTACHMENT_LIMIT = 100


def check_content(args: Json, *, edit: bool = False) -> None:
    """Raises RefusedError for a message that Slack would not take. An edit may name nothing (see `edited`)."""
    text, blocks, attachments = args.get("text"), args.get("blocks"), args.get("attachments")
    markdown = args.get("markdown_text")
    if markdown and (text or blocks):
        raise RefusedError("markdown_text_conflict")
    if not (text or blocks or attachments or markdown) and not edit:
        raise RefusedError("no_text")
    if len(str(text or "")) > MESSAGE_TEXT or len(str(markdown or "")) > MARKDOWN_TEXT:
        raise RefusedError("msg_too_long")
    if blocks is not None:
        if not isinstance(blocks, list):
            raise RefusedError("invalid_blocks_format")
        problems = block_problems(blocks)
        if problems:
            raise with_messages("invalid_blocks", problems)
        if total_text(blocks) > TOTAL_TEXT:
            raise RefusedError("msg_blocks_too_long")
    if attachments is not None:
        _check_attachments(attachments)


def _check_attachments(attachments: Any) -> None:
    if not isinstance(attachments, list):
        raise RefusedError("invalid_attachments")
    if len(attachments) > ATTACHMENT_LIMIT:
        raise RefusedError("too_many_attachments")
    for position, attachment in enumerate(attachments):
        if isinstance(attachment, dict) and attachment.get("blocks") is not None:
            problems = block_problems(attachment["blocks"], where=f"/attachments/{position}/blocks")
            if problems:
                raise with_messages("invalid_attachments", problems)


@dataclass(frozen=True)
class _Posted:
    app_id: str
    ephemeral: bool


@dataclass
class Messages:
    """Remembers whose the messages are that went through here, and which replies were sent to the channel as well."""

    _posted: dict[tuple[str, str], _Posted] = field(default_factory=dict)
    _broadcast: set[tuple[str, str]] = field(default_factory=set)

    def posted(self, channel: str, ts: str, app_id: str, *, ephemeral: bool = False) -> None:
        self._posted[(channel, ts)] = _Posted(app_id, ephemeral)

    def broadcast(self, channel: str, ts: str) -> None:
        """A reply with `reply_broadcast`, which local-slack drops."""
        self._broadcast.add((channel, ts))

    def is_broadcast(self, channel: str, ts: str) -> bool:
        return (channel, ts) in self._broadcast

    def content(self, args: Json) -> Json:
        """Text, blocks and attachments as Slack stores them: with the ids that it fills in."""
        kept = {name: args[name] for name in ("text", "blocks", "attachments") if args.get(name) is not None}
        if "blocks" in kept:
            kept["blocks"] = with_ids(kept["blocks"])
        if args.get("markdown_text"):
            kept["text"] = args["markdown_text"]
        return kept

    def check_own(self, channel: str, ts: str, app_id: str, stored: Json | None, refusal: str) -> None:
        """Raises RefusedError if the message is not there for the API, or not the app's."""
        known = self._posted.get((channel, ts))
        if stored is None or (known and known.ephemeral) or stored.get("subtype") == "ephemeral":
            raise RefusedError("message_not_found")
        if stored.get("app_id") != app_id:
            raise RefusedError(refusal)

    def forget(self) -> None:
        self._posted.clear()
        self._broadcast.clear()


def edited(content: Json, stored: Json) -> Json:
    """What an edit leaves: blocks go if only text is given, everything stays if nothing is."""
    if content:
        return {"text": "", **content}
    return {name: stored[name] for name in ("text", "blocks", "attachments") if stored.get(name) is not None}


def page(messages: list[Json], args: Json, *, default_limit: int) -> Json:
    """One page of history or replies. Local-slack ignores every one of these arguments, and lists ephemeral messages.

    `messages` in the order in which Slack lists them (history: newest first); the cursor is a position in it.
    Raises RefusedError for one that is none.
    """
    seen = [message for message in messages if message.get("subtype") != "ephemeral" and _between(message["ts"], args)]
    try:
        begin = int(args.get("cursor") or 0)
        limit = min(999, max(1, int(args.get("limit") or default_limit)))
    except ValueError:
        raise RefusedError("invalid_cursor") from None
    more = len(seen) > begin + limit
    return {
        "messages": seen[begin : begin + limit],
        "has_more": more,
        "response_metadata": {"next_cursor": str(begin + limit) if more else ""},
    }


def _between(ts: str, args: Json) -> bool:
    inclusive = str(args.get("inclusive", "")).lower() in ("1", "true")
    oldest = float(args.get("oldest") or 0)
    latest = float(args.get("latest") or "inf")
    at = float(ts)
    return oldest <= at <= latest if inclusive else oldest < at < latest


def json_args(args: Json) -> Json:
    """Form fields that hold JSON, parsed; one that is not JSON stays a string and is refused later."""
    parsed = dict(args)
    for name in ("blocks", "attachments", "view", "metadata", "files"):
        if isinstance(parsed.get(name), str):
            try:
                parsed[name] = json.loads(parsed[name])
            except ValueError:
                continue
    return parsed
