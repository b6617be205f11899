from dataclasses import replace

import pytest

from bot.announce.verdict import (
    Ending,
    Outcome,
    blind_spots,
    blind_spots_by_reason,
    ending,
    standing,
    worst_confirmed,
)
from bot.incidents.incident import RoundReason
from bot.incidents.judge import Verdict
from bot.remediation.proposal import ProposalState
from bot.runbook.schema import Severity
from tests import stories as s


def test_before_the_first_round_has_ended_it_is_waiting():
    now = standing(s.view())
    assert (now.outcome, now.is_there) == (Outcome.WAITING, False)


def test_the_first_confirmed_finding_is_the_verdict_and_what_it_explains_is_not_told_beside_it():
    symptom = replace(s.UNDER_PROVISIONED, rule="queue", title="Queue long", suppressed_by="under_provisioned")
    other = replace(s.UNDER_PROVISIONED, rule="kv", title="KV cache full", severity=Severity.WARNING)
    now = standing(s.view(s.round_of(findings=(s.UNDER_PROVISIONED, symptom, other, s.NO_LONG_PROMPTS))))
    assert (now.outcome, now.title) == (Outcome.CONFIRMED, "Under-provisioned")
    assert [f.rule for f in now.others] == ["kv"]


def test_what_could_not_be_known_is_inconclusive_and_never_fine():
    now = standing(s.inconclusive())
    assert now.outcome is Outcome.INCONCLUSIVE
    assert "Under-provisioned or GPU memory errors" in now.text


def test_a_round_that_could_not_run_says_why():
    now = standing(s.view(s.round_of(error="the runbook high_latency does not exist", findings=())))
    assert (now.outcome, now.title) == (Outcome.NOT_RUN, "Not diagnosed")
    assert "does not exist" in now.text


def test_all_ruled_out_says_how_many_causes_were_looked_for():
    now = standing(s.view(s.round_of(findings=(s.NO_LONG_PROMPTS,))))
    assert now.outcome is Outcome.NOTHING_FOUND and "all 1 causes" in now.text


def test_without_a_runbook_the_alert_is_named():
    now = standing(s.without_runbook())
    assert now.outcome is Outcome.NO_RUNBOOK and "KubeletTooManyPods" in now.text


def test_a_resolved_incident_says_what_it_was_and_not_that_nothing_is_left():
    assert standing(s.resolved()).title == "Under-provisioned"


def test_what_a_change_brings_along_is_not_what_it_was():
    starting = replace(s.UNDER_PROVISIONED, rule="replicas_missing", title="Replicas missing")
    view = s.resolved()
    during = s.round_of(2, 9, reason=RoundReason.AFTER_CHANGE, findings=(starting,))
    assert standing(replace(view, rounds=(view.rounds[0], during, view.rounds[-1]))).title == "Under-provisioned"


def test_while_a_change_runs_the_cause_stays_and_what_it_brings_along_stands_beside_it():
    starting = replace(s.UNDER_PROVISIONED, rule="replicas_missing", title="Replicas missing")
    during = s.round_of(2, 3, reason=RoundReason.BURNING, findings=(starting,))
    now = standing(s.view(s.round_of(), during, proposals=(s.RUNNING,)))
    assert now.title == "Under-provisioned" and [f.title for f in now.others] == ["Replicas missing"]
    assert standing(s.view(s.round_of(), during)).title == "Replicas missing", "without a change it is the verdict"
    latest = s.round_of(3, 4, findings=(replace(s.UNDER_PROVISIONED, text="12 requests wait"),))
    assert standing(s.view(s.round_of(), latest, proposals=(s.RUNNING,))).text == "12 requests wait"


def test_of_several_changes_the_one_that_helped_counts():
    other = replace(s.UNDER_PROVISIONED, rule="memory", title="Memory pressure")
    useless = s.proposal(1, state=ProposalState.ENDED, started_at=s.at(1), ended_at=s.at(2))
    between = s.round_of(2, 3, findings=(other,))
    helped = replace(s.HELPED, started_at=s.at(4))
    view = s.resolved(proposals=(useless, helped))
    assert standing(replace(view, rounds=(view.rounds[0], between, view.rounds[-1]))).title == "Memory pressure"


def test_of_trouble_that_came_back_it_is_what_it_was_then():
    """An overload is scaled away; then a bad revision reopens the incident, and is rolled back."""
    view = s.resolved()
    other = replace(s.UNDER_PROVISIONED, rule="bad_rollout", title="Bad rollout")
    scaled = replace(s.HELPED, started_at=s.at(1), ended_at=s.at(2))
    back = s.round_of(2, 4, findings=(other,))
    again = replace(view, incident=replace(view.incident, reopened_at=s.at(3)), rounds=(view.rounds[0], back))
    rolled_back = replace(s.HELPED, number=9, started_at=s.at(5), ended_at=s.at(7))
    for later in ((rolled_back,), ()):
        found = standing(replace(again, rounds=(*again.rounds, view.rounds[-1]), proposals=(scaled, *later)))
        assert found.title == "Bad rollout"


def test_what_a_change_brings_along_is_not_what_it_was_though_the_alert_flapped_meanwhile():
    starting = replace(s.UNDER_PROVISIONED, rule="replicas_missing", title="Replicas missing")
    view = s.resolved()
    during = s.round_of(2, 9, reason=RoundReason.AFTER_CHANGE, findings=(starting,))
    flapped = replace(view.incident, reopened_at=s.at(8))
    assert s.HELPED.started_at < flapped.reopened_at < s.HELPED.ended_at
    found = standing(replace(view, incident=flapped, rounds=(view.rounds[0], during, view.rounds[-1])))
    assert found.title == "Under-provisioned"


def test_a_cause_found_only_after_the_change_is_still_told():
    view = s.resolved()
    late = s.round_of(2, 9)
    assert standing(replace(view, rounds=(late, view.rounds[-1]))).title == "Under-provisioned"


def test_foreign_text_in_a_finding_cannot_mention_anybody():
    bad = replace(s.UNDER_PROVISIONED, title="<!channel>", text="pod <@U1> *bold*")
    now = standing(s.view(s.round_of(findings=(bad,))))
    assert "<" not in now.title + now.text and "*" not in now.text


def test_every_question_without_an_answer_is_a_blind_spot_with_its_reason():
    spots = blind_spots(s.INCONCLUSIVE)
    assert [what for what, _ in spots] == ["TTFT P99", "queue", "gpu memory"]
    assert spots[2][1] == "no agent on gpu-03"


def test_a_field_that_no_exporter_has_is_a_blind_spot_although_its_question_was_answered():
    answered = replace(s.GPU_DOWN, reading={"uncorrected": None}, error=None)
    round = s.round_of(observations=(s.QUEUE, answered), findings=(s.GPU_UNCLEAR,))
    assert blind_spots(round) == [("gpu memory", "not exported by dcgm-exporter")]


def test_what_a_probe_says_it_could_not_measure_is_a_blind_spot_though_no_rule_missed_it():
    partly = replace(s.QUEUE, step="gpu_busy", reading={"gpus": 4, "missing": "GPU_UTIL is not exported"})
    round = s.round_of(observations=(partly,), findings=(s.UNDER_PROVISIONED,))
    assert blind_spots(round) == [("gpu busy", "GPU_UTIL is not exported")]


def test_one_silent_source_is_told_once_and_without_its_address():
    assert blind_spots_by_reason(s.INCONCLUSIVE)[0] == (
        ["TTFT P99", "queue"],
        "Prometheus did not answer within 8 s",
    )


def test_fixed_is_claimed_only_when_the_probes_agree():
    assert ending(s.resolved()) is Ending.AGREED
    assert ending(s.resolved(signal=s.SLOW)) is Ending.STILL_BAD
    straddling = replace(s.FAST, low=0.5, high=2.5)
    assert ending(s.resolved(signal=straddling)) is Ending.CANNOT_TELL
    no_data = replace(s.FAST, value=None, low=None, high=None)
    assert ending(s.resolved(signal=no_data)) is Ending.CANNOT_TELL


def test_until_the_round_after_the_resolve_it_is_being_checked():
    view = s.resolved()
    assert ending(replace(view, rounds=view.rounds[:1])) is Ending.CHECKING


def test_a_round_of_an_earlier_resolve_does_not_count():
    view = s.resolved()
    old = replace(view.rounds[-1], due_at=s.at(5), ended_at=s.at(5.1))
    assert ending(replace(view, rounds=(view.rounds[0], old))) is Ending.CHECKING


@pytest.mark.parametrize("resolution", ["resolved by <@U02BOB>", "resolved by <@U02BOB>: wrong alert"])
def test_one_that_a_person_resolved_is_not_checked(resolution: str):
    view = s.resolved()
    by_hand = replace(view.incident, resolution=resolution)
    assert ending(replace(view, incident=by_hand, rounds=view.rounds[:1])) is Ending.UNCHECKED


def test_a_cause_that_is_still_confirmed_without_a_signal_is_not_over():
    view = s.resolved()
    last = replace(view.rounds[-1], signal=None, findings=(s.UNDER_PROVISIONED,), reason=RoundReason.RESOLVING)
    assert ending(replace(view, rounds=(last,))) is Ending.STILL_BAD


def test_the_worst_confirmed_severity():
    mild = replace(s.UNDER_PROVISIONED, severity=Severity.WARNING)
    unsure = replace(s.UNDER_PROVISIONED, verdict=Verdict.INCONCLUSIVE)
    assert worst_confirmed([s.round_of(findings=(mild, unsure))]) is Severity.WARNING
    assert worst_confirmed([s.round_of(findings=(unsure,))]) is None
