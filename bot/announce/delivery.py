"""One call to Slack, with what must be written before and after it.

Before a post its attempt is written down; after an unclear answer, or a crash in between, Slack is asked for the
message by its marker before it is posted again. So nothing is doubled, and nothing lost.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from bot.announce.card import render
from bot.announce.graph import Draw
from bot.announce.outbox import Card, Store, Waiting, Whisper
from bot.announce.pushes import FirstPost, first_post
from bot.announce.seen import Seen, digest, marker, read, written
from bot.announce.view import View, load
from bot.audit import AuditEntry
from bot.fleet import Fleet
from bot.incidents.incident import IncidentState, Timing
from bot.ports import Chat, GoneError, NoChannelError, SourceError, TooManyError, UnclearError
from bot.runbook.schema import Runbook

log = logging.getLogger(__name__)

WHISPER_LIFE = timedelta(hours=1)
# A graph is a help, the words are the message: after so many tries the thread goes on without it.
PICTURE_TRIES = 3


class Delivery:
    """Methods return whether Slack was called. They raise what `Chat` raises, with the store as it was before."""

    def __init__(
        self,
        store: Store,
        chat: Chat,
        fleet: Fleet,
        runbooks: Mapping[str, Runbook],
        timing: Timing,
        draw: Draw,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._chat = chat
        self._fleet = fleet
        self._runbooks = runbooks
        self._timing = timing
        self._draw = draw
        self._clock = clock
        self._refused: set[str] = set()  # markers whose last attempt surely had no effect
        self._halfway: dict[int, str] = {}  # thread messages that stand, and lack their picture
        self._picture_tries: dict[int, int] = {}

    def post_card(self, incident: int, mark: int) -> bool:
        view, card = self._view(incident)
        if view is None or card is None or card.ts is not None:
            return False
        decision = first_post(view, self._timing, self._clock())
        if decision is FirstPost.WAIT:
            return False
        if card.attempted_at is not None and self._found_card(view, card, card.attempted_at, mark):
            return True
        call = view.oncall if decision is FirstPost.CALL else None
        name = marker(incident, called=call is not None)
        report = render(view)

        def attempt() -> None:
            with self._store.write() as tx:
                tx.card_attempted(incident, self._clock())

        try:
            ts = self._post(
                name, card.attempted_at, attempt, lambda: self._chat.post(card.channel, report, marker=name, call=call)
            )
        except NoChannelError as error:
            if card.channel == self._fleet.default_channel:
                raise
            self._move(view, card, error)
            return True
        # With its ts the card may have more to say (that it came late): then it stays stale.
        complete = digest(render(replace(view, card=replace(card, ts=ts)))) == digest(report)
        self._write_shown(incident, ts, Seen(digest(report), call is not None), mark if complete else mark - 1)
        return True

    def edit_card(self, incident: int, mark: int) -> bool:
        view, card = self._view(incident)
        if view is None or card is None or card.ts is None:
            return False
        seen = read(card.shown) or Seen("", called=False)
        report = render(view)
        if digest(report) == seen.digest:
            self._write_shown(incident, card.ts, seen, mark)
            return False
        ts = card.ts
        name = marker(incident, called=seen.called)
        try:
            self._chat.update(card.channel, ts, report, marker=name)
        except GoneError:
            log.warning("somebody deleted the card of inc-%s; it is posted again while the incident is open", incident)
            if view.incident.state is IncidentState.OPEN:
                ts = self._chat.post(card.channel, report, marker=name)
        self._write_shown(incident, ts, Seen(digest(report), seen.called), mark)
        return True

    def post_message(self, waiting: Waiting) -> bool:
        """A message with a picture takes two calls: this one is made again for the second."""
        message = waiting.message
        with self._store.read() as tx:
            card = tx.card(message.incident)
        if card is None or card.ts is None:
            return False
        thread = card.ts
        ts = self._halfway.get(waiting.id)
        if ts is None:
            try:
                ts = self._message(waiting, card.channel, thread)
            except GoneError:
                # The card above it was deleted. An edit will find that out too, and post it again.
                self._make_stale(message.incident, card)
                return True
            if message.picture is not None:
                self._halfway[waiting.id] = ts
                return True
        elif message.picture is not None:
            self._picture(waiting, card.channel, thread)
        with self._store.write() as tx:
            tx.message_posted(waiting.id, ts)
        self._halfway.pop(waiting.id, None)
        self._picture_tries.pop(waiting.id, None)
        return True

    def whisper(self, whisper: Whisper) -> bool:
        late = self._clock() - whisper.created_at > WHISPER_LIFE
        if not late:
            try:
                self._chat.whisper(whisper.channel, whisper.user, whisper.report)
            except SourceError as error:
                if error.retryable:
                    raise
                log.error("an answer to %s could not be given: %s: %s", whisper.user, whisper.report.text, error)
        with self._store.write() as tx:
            tx.whisper_done(whisper.id)
        return not late

    # ------------------------------------------------------------------------------------------ parts of these

    def _view(self, incident: int) -> tuple[View | None, Card | None]:
        with self._store.read() as tx:
            view = load(tx, incident, self._fleet, self._runbooks)
        return view, view.card if view is not None else None

    def _post(
        self, name: str, attempted_at: datetime | None, attempt: Callable[[], None], post: Callable[[], str]
    ) -> str:
        if attempted_at is None:  # the first attempt's time stays: from there on Slack is searched
            attempt()
        self._refused.discard(name)
        try:
            return post()
        except UnclearError:
            raise
        except SourceError:
            self._refused.add(name)
            raise

    def _found_card(self, view: View, card: Card, since: datetime, mark: int) -> bool:
        number = view.incident.number
        names = {called: marker(number, called=called) for called in (True, False)}
        if any(name in self._refused for name in names.values()):
            return False
        for called, name in names.items():
            ts = self._chat.find(card.channel, name, since=since)
            if ts is not None:
                # What exactly it shows is not known, so it is edited next.
                self._write_shown(number, ts, Seen("", called), mark - 1)
                return True
        return False

    def _write_shown(self, incident: int, ts: str, seen: Seen, mark: int) -> None:
        with self._store.write() as tx:
            tx.card_shown(incident, ts, written(seen), mark)

    def _make_stale(self, incident: int, card: Card) -> None:
        seen = read(card.shown) or Seen("", called=False)
        with self._store.write() as tx:
            mark = tx.card_mark(incident)
            tx.card_shown(incident, card.ts or "", written(Seen("", seen.called)), mark - 1)

    def _move(self, view: View, card: Card, error: SourceError) -> None:
        log.error("inc-%s goes to %s: %s", view.incident.number, self._fleet.default_channel, error)
        detail = {"from": card.channel, "to": self._fleet.default_channel, "why": error.why}
        with self._store.write() as tx:
            tx.card_moved(view.incident.number, self._fleet.default_channel)
            tx.audit(AuditEntry(self._clock(), "bot", "card.moved", view.incident.id, detail))

    def _message(self, waiting: Waiting, channel: str, thread: str) -> str:
        name = f"message-{waiting.id}"
        if waiting.attempted_at is not None and name not in self._refused:
            found = self._chat.find(channel, name, thread=thread, since=waiting.attempted_at)
            if found is not None:
                return found
        message = waiting.message

        def attempt() -> None:
            with self._store.write() as tx:
                tx.message_attempted(waiting.id, self._clock())

        return self._post(
            name,
            waiting.attempted_at,
            attempt,
            lambda: self._chat.post(
                channel,
                message.report,
                marker=name,
                thread=thread,
                broadcast=message.broadcast,
                call=message.mention,
            ),
        )

    def _picture(self, waiting: Waiting, channel: str, thread: str) -> None:
        message = waiting.message
        picture = message.picture or ""
        name = f"inc-{message.incident}-{picture.replace(':', '-')}.png"
        tries = self._picture_tries.get(waiting.id, 0)
        if tries >= PICTURE_TRIES:
            log.error("inc-%s goes without the picture %s after %s tries", message.incident, picture, tries)
            return
        self._picture_tries[waiting.id] = tries + 1  # before, so that a mistake in drawing counts too
        try:
            png = self._draw(message.incident, picture)
        except SourceError as error:  # not Slack's fault, so it must not slow Slack down
            log.warning("inc-%s goes without the picture %s: %s", message.incident, picture, error)
            return
        # An attempt that this process knows nothing of may have come as far as the picture.
        doubtful = waiting.attempted_at is not None or tries > 0
        if png is None or (doubtful and self._chat.has_picture(channel, thread, name)):
            return
        title = f"{picture.replace(':', ' of round ')}, inc-{message.incident}"
        try:
            self._chat.picture(channel, thread, name=name, title=title, alt=message.report.text, png=png)
        except TooManyError:
            self._picture_tries[waiting.id] = tries
            raise
