"""The modals and Home tabs that people have open. Kept here, since local-slack has one stack for everybody.

Local-slack also gives a view a new id with every update, ignores `hash` and forgets initial values. Pure but for the
stacks it keeps.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.slack_rules.ids import made_up, with_ids
from sandbox.slack_rules.inputs import Json, Values, missing_inputs, state_values
from sandbox.slack_rules.limits import VIEW_BYTES, view_problems
from sandbox.slack_rules.refused import RefusedError, with_messages
from sandbox.slack_workspace import SlackApp, SlackWorkspace

STACK_LIMIT = 3


@dataclass
class Modals:
    workspace: SlackWorkspace
    _stacks: dict[str, list[Json]] = field(default_factory=dict)
    _homes: dict[tuple[str, str], Json] = field(default_factory=dict)

    def stack(self, user: str) -> list[Json]:
        return self._stacks.get(user, [])

    def homes(self) -> dict[str, dict[str, Json]]:
        """user -> app -> view, as local-slack's page wants them."""
        homes: dict[str, dict[str, Json]] = {}
        for (user, app_id), view in self._homes.items():
            homes.setdefault(user, {})[app_id] = view
        return homes

    def home(self, user: str, app_id: str) -> Json | None:
        return self._homes.get((user, app_id))

    def open(self, app: SlackApp, user: str, view: Json) -> Json:
        self._check_external_id(view)
        opened = self._view(app, view)
        self._stacks[user] = [opened]
        return opened

    def push(self, app: SlackApp, user: str, view: Json) -> Json:
        stack = self._stacks.get(user)
        if not stack:
            raise RefusedError("not_found")
        if len(stack) >= STACK_LIMIT:
            raise RefusedError("push_limit_reached")
        self._check_external_id(view)
        pushed = self._view(app, view, root=stack[0]["id"], previous=stack[-1]["id"])
        stack.append(pushed)
        return pushed

    def update(
        self, app: SlackApp, view: Json, *, view_id: str | None, external_id: str | None, view_hash: str | None
    ) -> tuple[str, Json]:
        """The user who has it open, and the view as it is now. Pass `view_hash` None to skip the check."""
        for user, stack in self._stacks.items():
            for position, old in enumerate(stack):
                if old["app_id"] != app.app_id or not _is_meant(old, view_id, external_id):
                    continue
                if view_hash is not None and view_hash != old["hash"]:
                    raise RefusedError("hash_conflict")
                stack[position] = self._view(app, view, like=old)
                return user, stack[position]
        raise RefusedError("not_found")

    def publish(self, app: SlackApp, user: str, view: Json, view_hash: str | None) -> Json:
        old = self._homes.get((user, app.app_id))
        if view_hash is not None and old is not None and view_hash != old["hash"]:
            raise RefusedError("hash_conflict")
        published = self._view(app, view, like=old) if old else self._view(app, view)
        self._homes[(user, app.app_id)] = published
        return published

    def submitted(self, user: str, touched: Values) -> tuple[Json, dict[str, str]]:
        """The top view with its state, and what keeps it from being submitted. Raises RefusedError without a view."""
        stack = self.stack(user)
        if not stack:
            raise RefusedError("not_found")
        view = {**stack[-1], "state": {"values": state_values(stack[-1].get("blocks"), touched)}}
        return view, missing_inputs(view.get("blocks"), view["state"]["values"])

    def close_top(self, user: str) -> tuple[Json, bool] | None:
        """The view that was closed, and whether the whole stack went with it (`clear_on_close`)."""
        stack = self._stacks.get(user)
        if not stack:
            return None
        closed = stack.pop()
        if closed.get("clear_on_close"):
            stack.clear()
        return closed, bool(closed.get("clear_on_close"))

    def answer(self, app: SlackApp, user: str, view_id: str, response: Mapping[str, Any] | None) -> dict[str, str]:
        """Do what an app answered to a submission. Returns the errors to show; raises RefusedError if it is wrong."""
        stack = self._stacks.get(user, [])
        action = (response or {}).get("response_action")
        if response is None or action is None:
            self._stacks[user] = [view for view in stack if view["id"] != view_id]
        elif action == "clear":
            stack.clear()
        elif action == "errors":
            return {str(block_id): str(text) for block_id, text in (response.get("errors") or {}).items()}
        elif action in ("update", "push"):
            check_view(response.get("view"), "modal")
            if action == "update":
                self.update(app, response["view"], view_id=view_id, external_id=None, view_hash=None)
            else:
                self.push(app, user, response["view"])
        else:
            raise RefusedError("invalid_arguments")
        return {}

    def forget(self) -> None:
        self._stacks.clear()
        self._homes.clear()

    def _check_external_id(self, view: Json) -> None:
        wanted = view.get("external_id")
        if wanted and any(old.get("external_id") == wanted for stack in self._stacks.values() for old in stack):
            raise RefusedError("duplicate_external_id")

    def _view(
        self,
        app: SlackApp,
        view: Json,
        *,
        like: Json | None = None,
        root: str | None = None,
        previous: str | None = None,
    ) -> Json:
        """As Slack returns it. An update keeps the ids of the view it is `like`."""
        view_id = like["id"] if like else f"V{made_up(10).upper()}"
        blocks = with_ids(view.get("blocks"))
        return {
            "private_metadata": "",
            "callback_id": "",
            "external_id": "",
            "clear_on_close": False,
            "notify_on_close": False,
            **view,
            "blocks": blocks,
            "id": view_id,
            "team_id": self.workspace.team_id,
            "app_id": app.app_id,
            "bot_id": app.bot_id,
            "app_installed_team_id": self.workspace.team_id,
            "root_view_id": like["root_view_id"] if like else root or view_id,
            "previous_view_id": like["previous_view_id"] if like else previous,
            "hash": f"{secrets.randbelow(10**10)}.{made_up(8)}",
            "state": {"values": state_values(blocks, {})},
        }


def check_view(view: Any, wanted: str) -> None:
    """Raises RefusedError as Slack would for a view that is too large or malformed."""
    if len(str(view)) > VIEW_BYTES:
        raise RefusedError("view_too_large")
    problems = view_problems(view)
    if isinstance(view, dict) and view.get("type") in ("modal", "home") and view["type"] != wanted:
        problems.append(f"must be of type {wanted} [json-pointer:/view/type]")
    if problems:
        raise with_messages("invalid_arguments", problems)


def _is_meant(view: Json, view_id: str | None, external_id: str | None) -> bool:
    return view["id"] == view_id if view_id else bool(external_id) and view.get("external_id") == external_id
