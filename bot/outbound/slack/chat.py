"""The Chat port on slack_sdk: post, edit, look, upload, whisper, dialogs. Nobody else calls Slack.

The client has no retry handlers: only the announcer knows whether a post may be repeated, and when.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from slack_sdk import WebClient

from bot.outbound.slack.blocks import Message, message, view
from bot.outbound.slack.errors import RefusedError, in_our_words
from bot.outbound.slack.limits import validate_message, validate_view
from bot.outbound.slack.mrkdwn import called
from bot.outbound.slack.people import People
from bot.ports import Modal, NoChannelError, SourceError
from bot.report import Report

log = logging.getLogger(__name__)

# Slack's clock and ours differ a little; a message that we look for may bear a slightly earlier time.
CLOCK_SKEW = timedelta(minutes=2)
PAGE = 200

_ABOUT_BLOCKS = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long")


def web_client(token: str, *, api_url: str, timeout_seconds: float) -> WebClient:
    """slack_sdk's own retries are off: a repeated post is a doubled message."""
    return WebClient(token, base_url=api_url, timeout=max(1, round(timeout_seconds)), retry_handlers=[])


class SlackChat:
    def __init__(self, client: WebClient, people: People) -> None:
        self._client = client
        self._people = people
        self._ids: dict[str, str] = {}  # "#name" -> id

    def post(
        self,
        channel: str,
        report: Report,
        *,
        marker: str,
        thread: str | None = None,
        broadcast: bool = False,
        call: str | None = None,
    ) -> str:
        def naming(who: str) -> str:
            return called(who) if who == call else self._people.name(who)

        rest = "in the thread" if thread is None else "did not fit here"
        made = message(report, marker=marker, naming=naming, rest=rest, call=called(call) if call else None)
        extra: dict[str, Any] = {} if thread is None else {"thread_ts": thread, "reply_broadcast": broadcast}
        try:
            return self._posted(channel, _body(made), extra)
        except RefusedError as error:
            if error.code not in _ABOUT_BLOCKS:
                raise
            log.error("Slack did not like the blocks of %s, so its text goes out alone: %s", marker, error)
            return self._posted(channel, _text_alone(made), extra)

    def update(self, channel: str, ts: str, report: Report, *, marker: str) -> None:
        made = message(report, marker=marker, naming=called, rest="in the thread")
        with self._ask("chat.update", f"in {channel}"):
            self._client.chat_update(channel=self._id(channel), ts=ts, **_body(made))

    def find(self, channel: str, marker: str, *, thread: str | None = None, since: datetime) -> str | None:
        for told in self._messages(channel, thread, since):
            if any(block.get("block_id") == marker for block in told.get("blocks", ())):
                return str(told["ts"])
        return None

    def picture(self, channel: str, thread: str, *, name: str, title: str, alt: str, png: bytes) -> None:
        with self._ask("files.upload", f"{name} to {channel}", look_first=True):
            self._client.files_upload_v2(
                channel=self._id(channel), thread_ts=thread, filename=name, title=title, alt_txt=alt, content=png
            )

    def has_picture(self, channel: str, thread: str, name: str) -> bool:
        since = datetime.fromtimestamp(float(thread)).astimezone()
        files = [file for told in self._messages(channel, thread, since) for file in told.get("files", ())]
        return any(file.get("name") == name for file in files)

    def whisper(self, channel: str, user: str, report: Report) -> None:
        made = message(report, marker="whisper", naming=called, rest="did not fit; ask for less")
        try:
            with self._ask("chat.postEphemeral", f"to {user} in {channel}", look_first=True):
                self._client.chat_postEphemeral(channel=channel, user=user, **_body(made))
        except NoChannelError:
            # Typed where the bot is no member. The answer belongs to the person, so it goes to them.
            self._posted(user, _body(made), {})

    def open_modal(self, trigger: str, modal: Modal) -> str:
        with self._ask("views.open", modal.title):
            answer = self._client.views_open(trigger_id=trigger, view=self._view(modal))
        return str(answer["view"]["id"])

    def update_modal(self, view: str, modal: Modal) -> None:
        with self._ask("views.update", modal.title):
            self._client.views_update(view_id=view, view=self._view(modal))

    def group_members(self, group: str) -> frozenset[str]:
        return self._people.members(group)

    def _ask(self, method: str, what: str, *, look_first: bool = False) -> AbstractContextManager[None]:
        return in_our_words(method, self._client.base_url, what=what, look_first=look_first)

    def _posted(self, channel: str, body: dict[str, Any], extra: dict[str, Any]) -> str:
        with self._ask("chat.postMessage", f"to {channel}", look_first=True):
            answer = self._client.chat_postMessage(
                channel=channel, unfurl_links=False, unfurl_media=False, **body, **extra
            )
        self._ids[channel] = str(answer["channel"])
        return str(answer["ts"])

    def _view(self, modal: Modal) -> dict[str, Any]:
        made = view(modal, naming=called)
        for problem in validate_view(made):
            log.error("Slack would refuse the dialog %s: %s", modal.title, problem)
        return made

    def _messages(self, channel: str, thread: str | None, since: datetime) -> Iterator[dict[str, Any]]:
        where: dict[str, Any] = {"channel": self._id(channel), "limit": PAGE, "inclusive": True}
        where["oldest"] = f"{(since - CLOCK_SKEW).timestamp():.6f}"
        method = "conversations.history" if thread is None else "conversations.replies"
        cursor = None
        while True:
            with self._ask(method, f"of {channel}"):
                if thread is None:
                    answer = self._client.conversations_history(**where, cursor=cursor)
                else:
                    answer = self._client.conversations_replies(**where, ts=thread, cursor=cursor)
            yield from answer["messages"]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    def _id(self, channel: str) -> str:
        """Posting takes "#name"; everything else takes the id."""
        if not channel.startswith("#"):
            return channel
        if channel not in self._ids:
            self._ids |= dict(self._channels())
        if channel not in self._ids:
            raise SourceError("Slack", f"has no channel {channel} that the bot can see", "Invite the bot there.")
        return self._ids[channel]

    def _channels(self) -> Iterator[tuple[str, str]]:
        cursor = None
        while True:
            with self._ask("conversations.list", ""):
                answer = self._client.conversations_list(
                    types="public_channel,private_channel", exclude_archived=True, limit=PAGE, cursor=cursor
                )
            yield from ((f"#{c['name']}", str(c["id"])) for c in answer["channels"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def _body(made: Message) -> dict[str, Any]:
    problems = validate_message(made.blocks, made.text)
    if not problems:
        return {"text": made.text, "blocks": made.blocks}
    log.error("a message would be refused by Slack, so its text goes out alone: %s", "; ".join(problems))
    return _text_alone(made)


def _text_alone(made: Message) -> dict[str, Any]:
    """A mistake of ours must not keep the words from arriving: without buttons, and with the marker for `find`."""
    words = {"type": "plain_text", "text": made.text[:2_900] or "(this message could not be shown)"}
    return {"text": made.text, "blocks": [{"type": "section", "block_id": made.blocks[0]["block_id"], "text": words}]}
