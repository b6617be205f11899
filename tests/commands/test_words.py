from datetime import timedelta

import pytest

from bot.commands.words import UsageError, incident_number, parameters, sorted_out, split, time_of, unknown
from tests.stories import START


def test_words_are_split_as_a_shell_would_and_slacks_escapes_undone():
    assert split('resolve inc-1 "wrong alert" a&amp;b') == ["resolve", "inc-1", "wrong alert", "a&b"]
    assert split("resolve “wrong alert”") == ["resolve", "wrong alert"]


def test_an_open_quote_is_said():
    with pytest.raises(UsageError, match="quote"):
        split('resolve "wrong')


def test_values_come_in_order_or_by_name_and_mixed():
    assert parameters(["high_latency", "chat-70b"], "runbook", "about") == {
        "runbook": "high_latency",
        "about": "chat-70b",
    }
    assert parameters(["about=chat-70b", "high_latency"], "runbook", "about")["runbook"] == "high_latency"
    assert sorted_out(["scale", "add=1", "image=a=b"]).named == {"add": "1", "image": "a=b"}


def test_a_wrong_name_gets_the_nearest_and_one_word_too_many_is_named():
    with pytest.raises(UsageError, match="did you mean about"):
        parameters(["abuot=x"], "runbook", "about")
    with pytest.raises(UsageError, match="too many: c"):
        parameters(["a", "b", "c"], "runbook", "about")
    with pytest.raises(UsageError, match="twice"):
        parameters(["at=1", "at=2"], "at")


def test_an_unknown_word_gets_the_nearest_or_the_list():
    assert unknown("runbook", "high_latancy", ["high_latency", "oom"]) == (
        "there is no runbook 'high_latancy'; did you mean high_latency?"
    )
    assert "there are: high_latency, oom" in unknown("runbook", "zzz", ["oom", "high_latency"])
    assert "none at all" in unknown("runbook", "zzz", [])


@pytest.mark.parametrize("word", ["142", "inc-142", "INC-142", "#142"])
def test_an_incident_is_understood_however_it_is_written(word: str):
    assert incident_number(word) == 142


@pytest.mark.parametrize("word", ["chat-70b", "inc-", "inc-142-p2", "²"])
def test_what_is_no_incident_says_how_they_are_called(word: str):
    with pytest.raises(UsageError, match="inc-142"):
        incident_number(word)


def test_a_time_of_day_is_the_last_one_that_was():
    assert time_of("02:05", START) == START - timedelta(minutes=2)
    assert time_of("23:00", START) == START - timedelta(hours=3, minutes=7)
    assert time_of("20m", START) == START - timedelta(minutes=20)
    assert time_of("2026-11-24T01:00Z", START) == START - timedelta(minutes=67)


@pytest.mark.parametrize("word", ["25:00", "soon", "2026-11-24T03:00Z"])
def test_a_time_that_is_none_or_in_the_future_is_refused(word: str):
    with pytest.raises(UsageError):
        time_of(word, START)
