"""Shows in local-slack's page what Slack's own clients would show: dates, groups, emoji in headers, code, Slack files.

Changes only what is sent to a browser, never what is stored or what the API returns. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sandbox.slack_rules.emoji import EMOJI
from sandbox.slack_rules.inputs import Json
from sandbox.slack_workspace import SlackWorkspace

_DATE = re.compile(r"<!date\^(\d+)\^([^|>^]*)(?:\^[^|>]*)?\|([^>]*)>")
_GROUP = re.compile(r"<!subteam\^([A-Z0-9]+)(?:\|([^>]*))?>")
_SPECIAL = re.compile(r"<!(here|channel|everyone)(?:\|[^>]*)?>")
_SHORTCODE = re.compile(r":([a-z0-9_+-]+):")
_FENCE = re.compile(r"```\n?(.*?)\n?```", re.DOTALL)
# The page has no field for these; the nearest that it has stands in. `inputs` reads the answer back.
_STAND_INS = {
    "number_input": "plain_text_input",
    "email_text_input": "plain_text_input",
    "url_text_input": "plain_text_input",
    "multi_static_select": "checkboxes",
    "users_select": "static_select",
}


class Display:
    def __init__(
        self, workspace: SlackWorkspace, *, now: Callable[[], datetime], file_path: Callable[[str], str | None]
    ) -> None:
        """`file_path`: the page's address of a Slack file, by id or by private address; None if there is none."""
        self._workspace = workspace
        self._groups = {group.id: group.handle for group in workspace.user_groups}
        self._now = now
        self._file_path = file_path

    def message(self, message: Json) -> Json:
        shown = {**message, "blocks": self.blocks(message.get("blocks"))}
        if isinstance(message.get("text"), str):
            shown["text"] = self.mrkdwn(message["text"])
        return {name: value for name, value in shown.items() if value is not None}

    def view(self, view: Json) -> Json:
        shown: Json = self._node(view)
        return shown

    def blocks(self, blocks: Any) -> Any:
        return [self._node(block) for block in blocks] if isinstance(blocks, list) else None

    def _node(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._node(child) for child in node]
        if not isinstance(node, dict):
            return node
        match node.get("type"):
            case "mrkdwn":
                return {**node, "text": self.mrkdwn(str(node.get("text", "")))}
            case "plain_text":
                return {**node, "text": emoji(str(node.get("text", "")))}
            case "image" if isinstance(node.get("slack_file"), Mapping):
                named = node["slack_file"]
                return {**node, "image_url": self._file_path(str(named.get("id") or named.get("url")))}
        shown = {name: self._node(child) for name, child in node.items()}
        return self._element(shown)

    def _element(self, element: Json) -> Json:
        if element.get("type") == "users_select":
            element = {**element, "options": [_option(user.id, user.real_name) for user in self._workspace.users]}
        if element.get("initial_option"):
            # The page does not show what is selected at first; its placeholder can.
            element = {**element, "placeholder": element["initial_option"].get("text")}
        stand_in = _STAND_INS.get(str(element.get("type")))
        return {**element, "type": stand_in} if stand_in else element

    def mrkdwn(self, text: str) -> str:
        shown = _DATE.sub(lambda found: self._date(int(found[1]), found[2], found[3]), text)
        shown = _GROUP.sub(lambda found: f"@{self._groups.get(found[1], found[2] or found[1])}", shown)
        shown = _SPECIAL.sub(r"@\1", shown)
        shown = _FENCE.sub(lambda found: _code(found[1]), shown)
        # The page escapes by itself. What an app escaped must not become markup on the way.
        shown = re.sub(r"&lt;(?=[@#!h])", "<\u2060", shown)
        return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    def _date(self, seconds: int, pattern: str, fallback: str) -> str:
        """In the time zone of the machine, which is the page's too."""
        then = datetime.fromtimestamp(seconds).astimezone()
        shown = _DATE_TOKEN.sub(lambda found: _token(found[1], then, self._now().astimezone()), pattern)
        return shown or fallback


_DATE_TOKEN = re.compile(r"\{([a-z_]+)\}")


def _token(token: str, then: datetime, now: datetime) -> str:
    if token.endswith("_pretty"):
        days = {0: "today", 1: "yesterday", -1: "tomorrow"}
        near = days.get((now.date() - then.date()) // timedelta(days=1))
        return near or _token(token.removesuffix("_pretty"), then, now)
    match token:
        case "time":
            return then.strftime("%-I:%M %p")
        case "time_secs":
            return then.strftime("%-I:%M:%S %p")
        case "date_num":
            return then.strftime("%Y-%m-%d")
        case "date":
            return then.strftime("%B %-d, %Y")
        case "date_short":
            return then.strftime("%b %-d, %Y")
        case "date_long":
            return then.strftime("%A, %B %-d, %Y")
        case "ago":
            return _ago((now - then).total_seconds())
    return f"{{{token}}}"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if abs(seconds) >= size:
            count = int(abs(seconds) // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def _code(text: str) -> str:
    """The page knows only inline code; line by line it looks the same, indentation kept."""
    kept = [re.sub(r"^ +| {2,}", lambda run: "\u00a0" * len(run[0]), line) for line in text.split("\n")]
    return "\n".join(f"`{line}`" if line else "" for line in kept)


def emoji(text: str) -> str:
    """Shortcodes in plain text, which the page leaves as they are."""
    return _SHORTCODE.sub(lambda found: EMOJI.get(found[1], found[0]), text)


def _option(value: str, label: str) -> Json:
    return {"value": value, "text": {"type": "plain_text", "text": label}}
