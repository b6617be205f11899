"""The rules as a part of the sandbox, and what a test or the demo holds of them."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from sandbox.addresses import free_port
from sandbox.fault_control import FaultControl
from sandbox.local_slack import LocalSlack
from sandbox.part import Part, answers
from sandbox.slack_rules.rules import Rule
from sandbox.slack_rules.settings import RulesSettings, settings_json
from sandbox.slack_workspace import SlackWorkspace


class SlackControl(FaultControl):
    """Exchanges have the attributes method, app, channel, text, thread_ts, ts. The method is one of the API's, or
    `response_url`, `upload`, `socket.interactive`, `socket.slash_commands`, `socket.events_api` (for sockets, "before"
    is before delivery and "after" is after the acknowledgement).

    Log entries by kind: `api` and `response_url` (method, app, channel, ok, error, status, retry_after, ts, thread_ts,
    text, blocks, block_ids, user, seconds), `envelope`, `ack`, `lost`, `operation_timeout`, `socket`, `upload`,
    `outage`, `cut`, `not_submitted`, `bad_answer`, `unknown_command`, `event_given_up`. An `api` entry is written when
    Slack has done it, before the answer leaves.
    """

    def __init__(self, url: str, workspace: SlackWorkspace) -> None:
        super().__init__(url)
        self._app = workspace.apps[0].app_id

    def switch(self, *rules: Rule, on: bool) -> None:
        self._put("rules", {"names": list(rules), "on": on})

    @contextmanager
    def without(self, *rules: Rule) -> Iterator[None]:
        self.switch(*rules, on=False)
        try:
            yield
        finally:
            self.switch(*rules, on=True)

    def wait_connected(self, count: int = 1, *, app: str | None = None, seconds: float = 20) -> None:
        """Until the app has exactly that many sockets. Raises TimeoutError."""
        query = {"app": app or self._app, "count": str(count), "seconds": str(seconds)}
        there = requests.get(f"{self.url}/_control/connected", params=query, timeout=seconds + 5).json()["connected"]
        if there != count:
            raise TimeoutError(f"after {seconds:.0f} s the bot has {there} Slack sockets, not {count}")

    def refresh_sockets(self, *, app: str | None = None, warning_seconds: float = 0.2) -> None:
        """Slack's routine: every connection is told to make a new one, and then closed."""
        self._post("refresh", {"app": app or self._app, "warning_seconds": warning_seconds}, 2 * warning_seconds)

    def reset(self) -> None:
        """Empty channels, no modals, full buckets. Sockets, rules and the log stay."""
        self._post("reset", {})

    def click(self, user: str, channel: str, ts: str, action: dict[str, Any]) -> None:
        """As the page would: `action` has block_id, action_id, type. Returns when it is acknowledged or lost."""
        frame = {"t": "block_action", "user": user, "channel": channel, "messageTs": ts, "action": action}
        self._post("act", frame, 10)

    def click_home(self, user: str, action: dict[str, Any], *, app: str | None = None) -> None:
        self._post("act", {"t": "block_action", "user": user, "appId": app or self._app, "action": action}, 10)

    def command(self, user: str, channel: str, command: str, text: str = "") -> None:
        frame = {"t": "slash_command", "user": user, "channel": channel, "command": command, "text": text}
        self._post("act", {**frame, "appId": self._app}, 10)

    def submit(self, user: str, values: dict[str, dict[str, Any]] | None = None) -> None:
        """Submit the modal that the user has open; `values` holds only what was touched."""
        self._post("act", {"t": "view_submit", "user": user, "values": values or {}}, 10)

    def close(self, user: str) -> None:
        self._post("act", {"t": "view_close", "user": user}, 10)

    def messages(self, channel: str) -> list[dict[str, Any]]:
        """What stands in the channel, threads and ephemeral messages included, oldest first."""
        return list(requests.get(f"{self.url}/_control/messages", params={"channel": channel}, timeout=10).json())

    def modals(self, user: str) -> list[dict[str, Any]]:
        return list(requests.get(f"{self.url}/_control/modals", params={"user": user}, timeout=10).json())

    def _post(self, what: str, body: dict[str, Any], seconds: float = 0) -> None:
        answer = requests.post(f"{self.url}/_control/{what}", json=body, timeout=seconds + 10)
        if answer.status_code != 200:
            raise ValueError(f"{self.url}/_control/{what} refused {body}: {answer.status_code} {answer.text}")


class SlackRules(Part):
    """`api_url` is the bot's base address (`…/api/`), `page_url` the browsers'; add `?as=alice` to act as somebody."""

    def __init__(
        self,
        local: LocalSlack,
        folder: Path,
        *,
        off: Collection[Rule] = (),
        latency_seconds: float = 0,
        post_burst: int = 3,
        ack_seconds: float = 3,
        trigger_seconds: float = 3,
        response_seconds: float = 30 * 60,
        event_retry_seconds: tuple[float, ...] = (0, 60, 300),
    ) -> None:
        """`post_burst`: posts that a channel takes at once before it is one a second; Slack does not say how many."""
        api_port, page_port, control_port = free_port(), free_port(), free_port()
        self.workspace = local.workspace
        self.api_url = f"http://127.0.0.1:{api_port}/api/"
        self.page_url = f"http://127.0.0.1:{page_port}/"
        self.control = SlackControl(f"http://127.0.0.1:{control_port}", local.workspace)
        self.request_log = folder / "slack-rules.jsonl"
        self._file = folder / "slack-rules.json"
        self._settings = RulesSettings(
            workspace=local.workspace,
            local_url=local.url,
            api_port=api_port,
            page_port=page_port,
            control_port=control_port,
            log=str(self.request_log),
            off=tuple(off),
            latency_seconds=latency_seconds,
            post_burst=post_burst,
            ack_seconds=ack_seconds,
            trigger_seconds=trigger_seconds,
            response_seconds=response_seconds,
            event_retry_seconds=event_retry_seconds,
        )
        super().__init__(
            "slack-rules",
            [sys.executable, "-m", "sandbox.slack_rules", str(self._file)],
            log=folder / "slack-rules.log",
            ready=answers(f"{self.control.url}/_control/ready"),
            cwd=Path(__file__).parent.parent.parent,
        )

    def launch(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(settings_json.dump_json(self._settings, indent=1))
        super().launch()
