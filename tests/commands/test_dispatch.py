import threading
import time

import pytest

from bot.commands import dispatch
from bot.commands.dispatch import Deeds, Dispatch, answer, find, names
from bot.commands.request import RequestKind
from bot.commands.words import UsageError
from bot.ports import SourceError
from tests import stories as s


class Desk:
    """Requests in, whispers out."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.done: list[tuple] = []
        self.context = bench.context
        self.woken = threading.Event()
        deeds = Deeds(decline=self._decline, approve=self._approve)
        self.dispatch = Dispatch(
            bench.store,
            lambda user, channel: self.context(user, channel=channel),
            deeds,
            clock=lambda: s.at(3),
            wake=self.woken.set,
        )

    def _decline(self, proposal, user, now):
        self.done.append(("decline", proposal, user))
        return f"{proposal} is declined."

    def _approve(self, proposal, user, inputs, now):
        self.done.append(("approve", proposal, user, dict(inputs)))
        return f"Not approved: {user} holds no role."

    def ask(self, kind: RequestKind, user: str = s.BOB, channel: str = s.CHANNEL, **payload: object) -> None:
        with self.bench.store.write() as tx:
            tx.ask(key=f"k{time.monotonic_ns()}", kind=kind, user=user, channel=channel, payload=payload, at=s.at(3))

    def typed(self, text: str, **more: str) -> None:
        self.ask(RequestKind.COMMAND, text=text, **more)

    def clicked(self, action: str, value: str, **more: str) -> None:
        self.ask(RequestKind.CLICK, action=action, value=value, **more)

    def whispers(self, count: int = 1):
        """What was answered, once it is there."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.dispatch.step(s.at(3))
            with self.bench.store.read() as tx:
                told = tx.waiting_whispers(100)
                if len(told) >= count and not tx.requests(10):
                    return told
            time.sleep(0.01)
        raise AssertionError(f"{count} answers were expected, there are {[w.report.text for w in told]}")


@pytest.fixture
def desk(bench):
    made = Desk(bench)
    yield made
    made.dispatch.close()


# ---------------------------------------------------------------------------------------------- finding a command


def test_a_command_is_a_file_and_what_they_share_is_none():
    assert set(names()) >= {
        "help", "status", "diagnose", "incidents", "ack", "resolve", "runbooks", "propose", "audit",
    }  # fmt: skip
    assert not {"words", "context", "dispatch", "request"} & set(names())


def test_every_command_says_how_it_is_written_and_what_it_is_for():
    for name in names():
        command = find(name)
        assert command.USAGE.split()[0] == name and command.SUMMARY.endswith((".", "add=1"))


def test_a_wrong_command_gets_the_nearest(bench):
    with pytest.raises(UsageError, match="did you mean status"):
        answer(["staus"], bench.context())


def test_no_words_ask_for_help(bench):
    assert answer([], bench.context()).text == "What can be asked:"


def test_a_mistake_in_a_commands_words_shows_its_usage(bench):
    with pytest.raises(UsageError, match=r"Usage: /vllm ack \[incident\]"):
        answer(["ack", "x"], bench.context())
    with pytest.raises(UsageError, match="Usage: vllm-oncall status"):
        answer(["status", "x"], bench.in_a_terminal())


def test_a_terminal_runs_only_what_reads(bench):
    bench.opened(s.incident())
    with pytest.raises(UsageError, match="typed in Slack"):
        answer(["ack", "inc-142"], bench.in_a_terminal())
    assert "inc-142" in s.said(answer(["incidents"], bench.in_a_terminal()))


# ---------------------------------------------------------------------------------------------- acting on rows


def test_what_was_typed_is_done_and_answered_to_who_typed_it(desk: Desk):
    desk.bench.opened(s.incident())
    desk.typed("ack inc-142")
    (whisper,) = desk.whispers()
    assert (whisper.channel, whisper.user) == (s.CHANNEL, s.BOB)
    assert whisper.report.text.startswith("inc-142 (chat-70b) is yours")
    with desk.bench.store.read() as tx:
        assert tx.incident(142).acked_by == s.BOB


@pytest.mark.parametrize(
    ("action", "value", "answered"),
    [
        ("ack", "inc-142", "is yours"),
        ("resolve", "inc-142", "is resolved"),
        ("rerun", "inc-142", "Diagnosing inc-142"),
        ("decline", "inc-142-p2", "inc-142-p2 is declined."),
    ],
)
def test_a_click_is_the_same_deed(desk: Desk, action: str, value: str, answered: str):
    desk.bench.opened(s.incident())
    desk.clicked(action, value)
    assert answered in desk.whispers()[0].report.text


def test_a_submitted_review_is_the_approval_and_its_answer_goes_where_the_card_is(desk: Desk):
    desk.bench.opened(s.incident())
    desk.ask(
        RequestKind.SUBMISSION, channel=s.BOB, callback="review", token="inc-142-p2", inputs={"reason": "customers"}
    )
    (whisper,) = desk.whispers()
    assert desk.done == [("approve", "inc-142-p2", s.BOB, {"reason": "customers"})]
    assert whisper.report.text == f"Not approved: {s.BOB} holds no role." and whisper.channel == s.CHANNEL


@pytest.mark.parametrize(
    ("typed", "answered"),
    [
        ("statsu", "`/vllm statsu`: there is no command 'statsu'; did you mean status?"),
        ("ack inc-9", "`/vllm ack inc-9`: there is no inc-9; the latest: none so far"),
        ('resolve "x', "a quote is not closed"),
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason(desk: Desk, typed: str, answered: str):
    desk.typed(typed)
    assert answered in desk.whispers()[0].report.text


def test_a_button_that_means_nothing_any_more_says_so(desk: Desk):
    desk.clicked("explode", "inc-142")
    assert "this button (explode) means nothing any more" in desk.whispers()[0].report.text
    desk.ask(RequestKind.SUBMISSION, callback="unknown", token="x")
    assert "nothing is known of this dialog" in desk.whispers(2)[1].report.text


def test_a_source_that_is_down_is_named(desk: Desk):
    def down(user: str, **more: object):
        def fails(incident, round):
            raise SourceError("Prometheus", "did not answer within 10 s")

        return desk.bench.context(user, diagnose=fails, **more)

    desk.context = down
    desk.typed("diagnose high_latency chat-70b")
    note, why = (w.report.text for w in desk.whispers(2))
    assert note == "Diagnosing chat-70b with high_latency…"
    assert "Prometheus: did not answer within 10 s" in why


def test_an_answer_that_takes_time_is_announced_at_once_and_follows(desk: Desk):
    go = threading.Event()

    def slow(user: str, **more: object):
        def diagnose(incident, round):
            go.wait(10)
            return s.round_of()

        return desk.bench.context(user, diagnose=diagnose, **more)

    desk.context = slow
    desk.typed("diagnose high_latency chat-70b")
    assert [w.report.text for w in desk.whispers(1)] == ["Diagnosing chat-70b with high_latency…"]
    go.set()
    assert "Under-provisioned" in desk.whispers(2)[1].report.text


def test_a_mistake_of_ours_is_answered_too_and_the_row_is_done(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def broken(user: str, **more: object):
        return desk.bench.context(user, fleet=None, **more)

    desk.context = broken
    desk.typed("status")
    assert "a mistake of the bot's" in desk.whispers()[0].report.text


def test_one_persons_requests_follow_one_another(desk: Desk):
    desk.bench.opened(s.incident())
    desk.typed("ack inc-142")
    desk.typed("resolve inc-142 done")
    desk.typed("incidents")
    texts = [w.report.text for w in desk.whispers(3)]
    assert "is yours" in texts[0] and "is resolved" in texts[1] and "No incident is open" in texts[2]


def test_a_row_is_acted_on_once_however_often_the_loop_looks(desk: Desk):
    desk.bench.opened(s.incident())
    for _ in range(5):
        desk.clicked("decline", "inc-142-p2")
    desk.whispers(5)
    assert len(desk.done) == 5


def test_an_answer_that_cannot_be_written_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    real, failures = dispatch._where, []

    def fails_once(card, request):
        if not failures:
            failures.append(1)
            raise SourceError("Database", "is locked", retryable=True)
        return real(card, request)

    monkeypatch.setattr(dispatch, "_where", fails_once)
    desk.typed("runbooks")
    assert desk.whispers()[0].report.text == "1 runbook"
    assert failures == [1]
