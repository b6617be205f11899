"""What people do in Slack: commands, clicks, submitted dialogs. Written down, acknowledged, and left to the leader.

The one exception is the review: Slack wants its dialog within 3 s of the click, so this replica opens it and fills it
in when the cluster has answered; that reads only.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

from fastapi import APIRouter, Depends, Request, Response
from slack_bolt import Ack, App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.adapter.starlette.handler import to_bolt_request, to_starlette_response
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from bot.commands.request import RequestKind, Store
from bot.ports import Chat, Modal, SourceError
from bot.remediation.review import opening
from bot.report import Report, plain

log = logging.getLogger(__name__)

LISTENERS = 32
REVIEWS = 8
# With the default of 10 a dead peer went unnoticed for 52 s; with 2 every fault is over within 12 s.
PING_SECONDS = 2
CONNECT_AGAIN_SECONDS = 2.0
ANY = re.compile(".*", re.DOTALL)


# These show what would be done, in a dialog, before anything is asked for.
DIALOGS = ("review", "undo", "abort")


class Contract(Protocol):
    def __call__(self, click: str, subject: str, user: str, now: datetime) -> Modal:
        """What would change, from the cluster as it is now (`remediation.review`). May take seconds."""
        ...


class SlackInbound:
    def __init__(
        self,
        store: Store,
        chat: Chat,
        contract: Contract,
        *,
        bot_token: str,
        app_token: str | None,
        signing_secret: str | None,
        api_url: str,
        timeout_seconds: float,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        """With an app token events come over Socket Mode, without one over HTTP (`routes`), signed."""
        if app_token is None and signing_secret is None:
            raise ValueError("Slack needs an app token (Socket Mode) or a signing secret (HTTP); neither is set")
        self._store = store
        self._chat = chat
        self._contract = contract
        self._clock = clock
        self._wake = wake
        self._listeners = ThreadPoolExecutor(LISTENERS, thread_name_prefix="slack-listener")
        self._reviews = ThreadPoolExecutor(REVIEWS, thread_name_prefix="review")
        self._closing = threading.Event()

        def web(token: str) -> WebClient:
            return WebClient(token, base_url=api_url, timeout=max(1, round(timeout_seconds)), retry_handlers=[])

        self._app = App(
            client=web(bot_token),
            signing_secret=signing_secret,
            # Said here, so that no event waits for Slack to tell who we are.
            authorize=lambda **_: AuthorizeResult(enterprise_id=None, team_id=None, bot_token=bot_token),
            token_verification_enabled=False,
            listener_executor=self._listeners,
        )
        self._listen(self._app)
        self._socket = (
            SocketModeHandler(
                self._app, app_token, web_client=web(app_token), ping_interval=PING_SECONDS, concurrency=LISTENERS
            )
            if app_token is not None
            else None
        )

    def connect(self) -> None:
        """Returns at once. If Slack does not answer, it is tried until it does."""
        if self._socket is not None:
            threading.Thread(target=self._connect, name="slack-connect", daemon=True).start()

    def is_connected(self) -> bool:
        """Would a click reach us? Over HTTP nobody can know."""
        return self._socket is None or bool(self._socket.client.is_connected())

    def close(self) -> None:
        self._closing.set()
        if self._socket is not None:
            self._socket.client.close()
        for pool in (self._listeners, self._reviews):
            pool.shutdown(wait=True, cancel_futures=True)

    def routes(self) -> APIRouter:
        """HTTP mode. Bolt's own FastAPI adapter would block the event loop for as long as a listener takes."""
        router = APIRouter()

        async def raw_body(request: Request) -> bytes:
            return await request.body()

        @router.post("/slack/events")
        def events(request: Request, body: bytes = Depends(raw_body)) -> Response:
            return to_starlette_response(self._app.dispatch(to_bolt_request(request, body)))

        return router

    # ------------------------------------------------------------------------------------------ listeners

    def _listen(self, app: App) -> None:
        app.command(ANY)(self._on_command)
        app.action(ANY)(self._on_action)
        app.view(ANY)(self._on_submission)

    # A listener that raises after `ack()` takes the acknowledgement back (Bolt overwrites it): none ever does.

    def _on_command(self, ack: Ack, body: dict[str, Any]) -> None:
        try:
            payload = {"text": str(body.get("text") or "")}
            self._ask(body["trigger_id"], RequestKind.COMMAND, body["user_id"], body["channel_id"], payload)
            ack()
            self._wake()
        except Exception as error:  # the top of a listener
            log.exception("a command could not be taken")
            ack(text=_not_taken(error))

    def _on_action(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        user, channel = body["user"]["id"], (body.get("channel") or {}).get("id") or body["user"]["id"]
        try:
            name, value = meant(action)
            if name in DIALOGS:
                ack()
                view = self._chat.open_modal(body["trigger_id"], opening(name, value))
                self._reviews.submit(self._fill_in, view, name, value, user, channel)
                return
            self._ask(body["trigger_id"], RequestKind.CLICK, user, channel, {"action": name, "value": value})
            ack()
            self._wake()
        except Exception as error:  # the top of a listener
            log.exception("a click could not be taken")
            ack()
            self._tell(channel, user, _not_taken(error))

    def _on_submission(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        user = body["user"]["id"]
        try:
            payload = {"callback": view["callback_id"], "token": view["private_metadata"], "inputs": inputs(view)}
            self._ask(f"view {view['id']}", RequestKind.SUBMISSION, user, user, payload)
            ack()
            self._wake()
        except Exception as error:  # the top of a listener
            log.exception("a dialog could not be taken")
            ack()
            self._tell(user, user, _not_taken(error))

    def _ask(self, key: str, kind: RequestKind, user: str, channel: str, payload: Mapping[str, Any]) -> None:
        with self._store.write() as tx:
            tx.ask(key=key, kind=kind, user=user, channel=channel, payload=payload, at=self._clock())

    # ------------------------------------------------------------------------------------------ the review

    def _fill_in(self, view: str, click: str, subject: str, user: str, channel: str) -> None:
        try:
            modal = self._contract(click, subject, user, self._clock())
            self._chat.update_modal(view, modal)
        except Exception as error:  # the top of a job
            log.exception("the dialog %s of %s could not be filled in", click, subject)
            self._tell(
                channel, user, f"The review of {plain(subject)} could not be shown: {plain(error)}. Press again."
            )

    def _tell(self, channel: str, user: str, words: str) -> None:
        try:
            self._chat.whisper(channel, user, Report(words))
        except SourceError as error:
            log.error("%s could not be told “%s”: %s", user, words, error)

    def _connect(self) -> None:
        assert self._socket is not None
        while not self._closing.is_set():
            try:
                # From then on the client watches over its connection itself.
                self._socket.client.connect_to_new_endpoint()
                return
            except (SlackClientError, OSError) as error:
                log.warning("Slack's socket is not there yet, so no click arrives: %s", error)
                self._closing.wait(CONNECT_AGAIN_SECONDS)


def meant(action: Mapping[str, Any]) -> tuple[str, str]:
    """What a click means, and on what: ("review", "inc-142-p2"). A menu's choice carries both in its value."""
    if "selected_option" in action:
        name, _, value = str(action["selected_option"]["value"]).partition(" ")
        return name, value
    return str(action["action_id"]).partition(":")[0], str(action.get("value", ""))


def inputs(view: Mapping[str, Any]) -> dict[str, str]:
    """What was typed and chosen, by the input's name. An empty field is not there."""
    found: dict[str, str] = {}
    for name, elements in ((view.get("state") or {}).get("values") or {}).items():
        for element in elements.values():
            chosen = element.get("selected_option") or {}
            value = element.get("value") or chosen.get("value")
            if value:
                found[name] = str(value)
    return found


def _not_taken(error: Exception) -> str:
    return f"This was not taken, and nothing was done: {plain(error)}. Please try again."
