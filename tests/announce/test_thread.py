from dataclasses import replace

from bot.announce.thread import PAGE_CHARACTERS, messages, pages
from bot.incidents.incident import IncidentState, RoundReason
from bot.outbound.slack.blocks import message
from bot.outbound.slack.limits import validate_message
from bot.outbound.slack.mrkdwn import called
from bot.outbound.terminal import render
from bot.report import Note, Text
from tests import stories as s


def keys(view) -> list[str]:
    return [m.key for m in messages(view)]


def test_the_thread_tells_the_story_in_order():
    assert keys(s.resolved()) == [
        "round:1",
        "acked:U02BOB:1795486080",
        "approval:inc-142-p2:U02BOB",
        "execution:inc-142-p2:running",
        "execution:inc-142-p2:ended",
        "resolved:1795486860",
        "round:3",
    ]


def test_what_was_said_is_said_again_the_same():
    before, after = messages(s.running()), messages(s.resolved())
    told = {m.key: m for m in after}
    for one in before:
        assert one.key in told


def test_a_burning_round_is_told_only_when_its_verdict_is_another():
    burning = s.round_of(2, 4, reason=RoundReason.BURNING)
    other = s.round_of(3, 8, reason=RoundReason.BURNING, findings=(s.GPU_UNCLEAR,))
    same = s.round_of(4, 12, reason=RoundReason.BURNING, findings=(s.GPU_UNCLEAR,))
    assert keys(s.view(s.round_of(), burning, other, same)) == ["round:1", "round:3"]


def test_rounds_that_show_a_turn_get_a_picture_of_the_signal():
    after = s.round_of(2, 9, reason=RoundReason.AFTER_CHANGE)
    joined = s.round_of(3, 10, reason=RoundReason.JOINED)
    blind = s.round_of(4, 11, reason=RoundReason.REQUESTED, signal=None)
    pictures = {m.key: m.picture for m in messages(s.view(s.round_of(), after, joined, blind))}
    assert pictures == {"round:1": "signal:1", "round:2": "signal:2", "round:3": None, "round:4": None}


def test_the_evidence_for_an_outcome_follows_the_outcome():
    looked = s.round_of(2, 11.9, reason=RoundReason.AFTER_CHANGE, for_execution=s.HELPED.id)
    watching = s.with_verdict(s.RUNNING)
    watching = replace(watching, rounds=(*watching.rounds, looked))
    assert keys(watching)[-1] == f"execution:{s.HELPED.id}:running"
    ended = replace(watching, proposals=(s.HELPED,))
    assert keys(ended)[-2:] == [f"execution:{s.HELPED.id}:ended", "round:2"]


def test_a_round_that_was_asked_for_when_a_change_had_ended_comes_when_it_ends():
    what_else = s.round_of(2, 12.1, reason=RoundReason.AFTER_CHANGE, for_execution=s.HELPED.id)
    view = s.with_verdict(s.HELPED)
    assert keys(replace(view, rounds=(*view.rounds, what_else)))[-1] == "round:2"


def test_a_round_too_long_for_one_message_takes_several_and_the_picture_comes_last():
    many = tuple(replace(s.QUEUE, step=f"q{n}", ask=f"Question {n}?", log_excerpt="x" * 700) for n in range(40))
    told = messages(s.view(s.round_of(observations=many)))
    assert [m.key for m in told][:3] == ["round:1", "round:1:2", "round:1:3"]
    assert [m.picture for m in told if m.picture] == ["signal:1"] and told[-1].picture
    everything = "".join(render(m.report) for m in told)
    assert all(f"Question {n}?" in everything for n in range(40))
    for one in told:
        shown = message(one.report, marker="m", naming=called, rest="did not fit here")
        assert validate_message(shown.blocks, shown.text) == ()
        assert "did not fit" not in str(shown.blocks)


def test_nothing_in_the_thread_calls_anybody_but_a_push():
    assert all(m.mention is None for m in messages(s.resolved()))


def test_suggestions_by_hand_are_complete_in_the_thread():
    view = s.with_verdict(manuals=(s.MANUAL,))
    text = render(messages(view)[0].report)
    assert "raise max-num-seqs from 256 to 384" in text and "kubectl -n llm edit deployment/chat-70b" in text


def test_an_incident_that_opens_again_and_one_resolved_by_hand_are_turns():
    assert "reopened:2" in keys(s.view(s.round_of(), incident=s.incident(flaps=2)))
    by_hand = s.incident(
        state=IncidentState.RESOLVED, resolved_at=s.at(5), resolution="resolved by <@U02BOB>: wrong alert"
    )
    last = messages(s.view(s.round_of(), incident=by_hand))[-1]
    assert "Resolved after 5 min: resolved by @U02BOB: wrong alert" in render(last.report)


def test_pages_keep_every_part_and_its_order():
    parts = tuple(Text(f"{n} " + "x" * 400) for n in range(100))
    split = list(pages(parts))
    assert tuple(part for page in split for part in page) == parts
    assert all(sum(len(p.text) for p in page) <= PAGE_CHARACTERS for page in split)


def test_small_print_stays_with_what_it_belongs_to():
    parts = tuple(p for n in range(40) for p in (Text("x" * 800), Note(f"of {n}")))
    assert all(not isinstance(page[0], Note) for page in pages(parts))
