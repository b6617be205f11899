from dataclasses import replace

from bot.announce.thread import LOG_LINES, PAGE_CHARACTERS, evidence, messages, pages
from bot.incidents.incident import IncidentState, RoundReason
from bot.incidents.judge import Query
from bot.outbound.slack.blocks import message
from bot.outbound.slack.limits import validate_message
from bot.outbound.slack.mrkdwn import called
from bot.outbound.terminal import render
from bot.report import Report, Text
from tests import stories as s


def words(round, view=None) -> str:
    return render(Report("x", evidence(round, view or s.view(round))), width=10_000)


def keys(view) -> list[str]:
    return [m.key for m in messages(view)]


def test_a_round_tells_each_question_its_query_its_number_and_what_failed():
    shown = words(s.round_of())
    assert "Round 1 (start) · high_latency · 1.4 s" in shown
    assert "Under-provisioned: 138 requests wait" in shown
    assert "TTFT P99 2.5–5 s (SLO 1 s)" in shown
    assert "How many requests wait?\nwaiting 138 · running 192 · growth 9.2/min · oldest not known" in shown
    assert 'sum(vllm:num_requests_waiting{namespace="llm"}) (http://127.0.0.1:9090/graph?g0.expr=x) → 138' in shown
    assert "GPU memory errors?\nNot answered: no agent on gpu-03" in shown
    assert "Under-provisioned: confirmed." in shown and "Long prompts: ruled out" in shown


def test_what_was_inconclusive_says_what_was_missing():
    assert "GPU memory errors: inconclusive: gpu.uncorrected: not exported by dcgm-exporter" in words(s.INCONCLUSIVE)


def test_a_symptom_names_what_explains_it():
    symptom = replace(s.UNDER_PROVISIONED, title="Queue long", suppressed_by="engine_hung")
    assert "Queue long: confirmed, explained by engine_hung" in words(s.round_of(findings=(symptom,)))


def test_a_look_at_the_past_says_who_can_answer_for_it():
    shown = words(s.round_of(as_of=s.at(-60), asked_by=s.BOB, reason=RoundReason.REQUESTED))
    assert "requested by @U02BOB, as of" in shown and "Only Prometheus can answer for the past" in shown


def test_nested_readings_and_units_are_words():
    reading = {
        "busy_ratio": 0.97,
        "memory_bytes": 80 * 2**30,
        "hot": True,
        "by_pod": {"chat-70b-a": 3, "chat-70b-b": None},
        "recent": ["10:02 image v1 → v2"],
        "none_at_all": [],
    }
    shown = words(s.round_of(observations=(replace(s.QUEUE, reading=reading, queries=()),)))
    assert "busy 97 %" in shown and "memory 80 GiB" in shown and "hot yes" in shown
    assert "by pod: chat-70b-a 3, chat-70b-b not known" in shown
    assert "recent: 10:02 image v1 → v2" in shown and "none at all: none" in shown


def test_a_long_log_shows_its_end_and_says_how_much_there_was():
    log = "\n".join(f"line {n}" for n in range(100))
    shown = words(s.round_of(observations=(replace(s.QUEUE, log_excerpt=log),)))
    assert f"The last {LOG_LINES} of 100 lines." in shown
    assert "line 99" in shown and "line 69" not in shown


def test_an_address_too_long_for_slack_leaves_its_query():
    query = Query("up" * 80, "1", "http://127.0.0.1/" + "q" * 3000)
    shown = words(s.round_of(observations=(replace(s.QUEUE, queries=(query,)),)))
    assert "http://127.0.0.1/" not in shown and "upup" in shown


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
