import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.commands import backtest
from bot.commands.words import UsageError
from bot.incidents.judge import Verdict
from tests import stories as s

STRETCH = ["high_latency", "chat-70b", "from=02:00", "to=02:10"]


class History:
    """Overloaded from 02:03 to 02:06; at 02:08 Prometheus has nothing."""

    def __init__(self) -> None:
        self.looks: list = []
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __call__(self, incident, round):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.looks.append((incident, round))
        threading.Event().wait(0.02)
        with self._lock:
            self.now -= 1
        minute = (round.as_of - s.at(-7)) / timedelta(minutes=1)
        full = s.round_of()
        verdict = Verdict.CONFIRMED if 3 <= minute <= 6 else Verdict.RULED_OUT
        findings = tuple(replace(f, verdict=verdict) for f in full.findings[:1])
        signal = full.signal if verdict is Verdict.CONFIRMED else replace(full.signal, value=0.3, low=0.25, high=0.5)
        if minute == 8:
            findings = tuple(replace(f, verdict=Verdict.INCONCLUSIVE) for f in findings)
            signal = replace(signal, value=None, low=None, high=None, error="Prometheus scrapes none of its pods")
        return replace(full, as_of=round.as_of, signal=signal, findings=findings)


@pytest.fixture
def history() -> History:
    return History()


def told(bench, history, words=STRETCH, **changes):
    return s.said(backtest.run(words, bench.context(diagnose=history, now=s.at(60), **changes)))


def test_rules_and_signal_are_told_as_stretches(bench, history):
    shown = told(bench, history)
    assert "high_latency on chat-70b, 2026-11-24 02:00 to 02:10 UTC" in shown and "11 looks" in shown
    assert "TTFT P99 above 1 s: 02:03–02:06" in shown
    assert "confirmed: 02:03–02:06" in shown and "inconclusive: 02:08" in shown
    assert "ruled out: 02:00–02:02, 02:07, 02:09–02:10" in shown
    assert "02:03–02:06  Under-provisioned" in shown
    assert "1 of 1 rules would have been confirmed, first at 02:03" in shown


def test_what_could_not_be_answered_for_the_past_is_counted(bench, history):
    shown = told(bench, history)
    assert "GPU memory errors?: never answered in full (no agent on gpu-03)" in shown
    assert "no telling: 02:08 (Prometheus scrapes none of its pods)" in shown
    assert "Only Prometheus keeps the past" in shown


def test_every_look_is_a_round_as_of_its_time(bench, history):
    told(bench, history, [*STRETCH, "every=5m"])
    assert sorted(round.as_of for _, round in history.looks) == [s.at(-7), s.at(-2), s.at(3)]
    assert {incident.target.service for incident, _ in history.looks} == {"chat-70b"}


def test_in_slack_one_look_follows_the_other_and_a_terminal_has_some_side_by_side(bench, history):
    told(bench, history)
    assert history.most == 1
    in_terminal = History()
    told(bench, in_terminal, user="terminal:bob")
    assert 1 < in_terminal.most <= backtest.SIDE_BY_SIDE


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["high_latancy", "chat-70b", "from=02:00"], "did you mean high_latency"),
        (["high_latency", "chat-70", "from=02:00"], "did you mean chat-70b"),
        (["high_latency", "chat-70b"], "from when"),
        (["high_latency", "chat-70b", "from=02:10", "to=02:00"], "no stretch"),
        ([*STRETCH, "every=often"], "no span of time"),
        ([*STRETCH, "every=1s"], "601 looks, and 500 are allowed: every=2s"),
    ],
)
def test_what_cannot_be_replayed_says_why(bench, history, words, why):
    with pytest.raises(UsageError, match=why):
        told(bench, history, words)
    assert history.looks == []
