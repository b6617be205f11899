from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from bot.announce.card import LATE_SECONDS, lock_screen, render
from bot.announce.outbox import Card
from bot.announce.view import View
from bot.incidents.incident import STORM_TITLE, Target
from bot.incidents.judge import Verdict
from bot.outbound.slack.blocks import message
from bot.outbound.slack.limits import validate_message
from bot.outbound.slack.mrkdwn import called
from bot.outbound.terminal import render as in_terminal
from bot.remediation.proposal import Applied, Helped, ProposalState
from bot.report import Button, Buttons, Fields, Menu
from bot.runbook.schema import Severity
from sandbox.slack_rules.limits import block_problems
from tests import stories as s


def words(view: View) -> str:
    return in_terminal(render(view), zone=UTC, width=10_000)


def buttons(view: View) -> list[str]:
    """Labels, those of the menu behind a `⋯`."""
    found = []
    for part in render(view).parts:
        for button in part.buttons if isinstance(part, Buttons) else ():
            if isinstance(button, Menu):
                found += [f"⋯ {c.label}" for c in button.choices]
            else:
                found.append(button.label)
    return found


def test_the_card_is_the_bar_that_the_design_sets():
    assert words(s.with_verdict()) == (
        "!! chat-70b · TTFT P99 2.5–5 s (SLO 1 s) since 02:07\n"
        "Under-provisioned: 138 requests wait, all 3 replicas are saturated.\n"
        "\n"
        "  Queue 138 (critical 200), +9/min\n"
        "  KV cache 91 % (warning 85 %)\n"
        "  GPU 97 % busy\n"
        "  Prefill P99 < 0.3 s: no long prompts\n"
        "\n"
        "? Not checked: gpu memory (no agent on gpu-03)\n"
        "\n"
        "On call @U01ALICE · 2 alerts · high_latency, round 1, 1.4 s · inc-142\n"
    )


def test_the_lock_screen_has_the_verdict_and_the_next_step_and_fits():
    text = lock_screen(s.with_verdict())
    assert text == (
        "chat-70b: TTFT P99 2.5–5 s (SLO 1 s). Under-provisioned: 138 requests wait, all 3 replicas are saturated. "
        "Suggested: scale 3 → 4."
    )
    assert render(s.with_verdict()).text == text


def test_at_most_three_things_to_press_with_the_safest_next_step_first():
    assert buttons(s.with_verdict()) == [
        "Review: scale 3 → 4…",
        "Ack",
        "⋯ Decline: scale 3 → 4",
        "⋯ Diagnose again",
        "⋯ Mark as resolved",
    ]


def test_the_proposal_of_the_verdict_comes_first_and_others_are_in_the_menu():
    other = s.proposal(1, rule="something_else", button="roll back to 7")
    shown = buttons(s.with_verdict(other, s.proposal()))
    assert shown[0] == "Review: scale 3 → 4…" and "⋯ Review: roll back to 7…" in shown


def test_after_the_ack_its_button_is_gone_and_the_name_stands_there():
    view = s.with_verdict(incident=s.incident(acked_by=s.BOB, acked_at=s.at(1)))
    assert "Ack" not in buttons(view)
    assert "Acknowledged by @U02BOB 02:08" in words(view)


def test_a_running_change_is_shown_with_its_progress_and_can_be_aborted():
    assert "Running: Scale chat-70b from 3 to 4 replicas: 3 of 4 ready; starting: chat-70b-7f9c-x2k" in words(
        s.running()
    )
    assert buttons(s.running())[0] == "Abort: scale 3 → 4…"
    assert not any("Review" in label or "Undo" in label for label in buttons(s.running()))
    assert lock_screen(s.running()).endswith("Running: scale 3 → 4.")


def test_while_a_change_runs_the_top_line_is_the_latest_rounds():
    better = s.round_of(2, 4, signal=s.FAST, findings=(s.NO_LONG_PROMPTS,))
    shown = words(s.view(s.round_of(), better, proposals=(s.RUNNING,)))
    assert "TTFT P99 250–500 ms (SLO 1 s) since 02:07\nUnder-provisioned" in shown


def test_an_ended_change_is_shown_with_its_outcome_and_can_be_undone():
    view = s.with_verdict(s.HELPED)
    assert "Helped: TTFT P99 2.5–5 s → 0.25–0.5 s" in words(view)
    assert "⋯ Undo: scale 3 → 4…" in buttons(view)
    undone = s.proposal(3, undoes="inc-142-p2", state=ProposalState.ENDED, applied=Applied.YES)
    assert not any("Undo" in label for label in buttons(s.with_verdict(s.HELPED, undone)))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"helped": Helped.NO}, "Did not help"),
        ({"helped": Helped.CANNOT_TELL}, "Cannot tell whether it helped"),
        ({"applied": Applied.PARTLY}, "Applied partly"),
        ({"applied": Applied.NO}, "Not applied"),
    ],
)
def test_how_a_change_ended_is_said_in_its_first_words(changes: dict, shown: str):
    assert f"{shown}: TTFT P99" in words(s.with_verdict(replace(s.HELPED, **changes)))


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (ProposalState.REFUSED, "Refused"),
        (ProposalState.FAILED, "Failed"),
        (ProposalState.INTERRUPTED, "Interrupted"),
    ],
)
def test_a_change_that_did_not_go_through_says_why(state: ProposalState, shown: str):
    broken = replace(s.RUNNING, state=state, refusal="no free GPUs", outcome=None)
    assert f"{shown}: Scale chat-70b from 3 to 4 replicas: no free GPUs" in words(s.with_verdict(broken))


def test_many_changes_are_counted_and_the_last_ones_shown():
    shown = words(s.with_verdict(*(replace(s.HELPED, number=n, outcome=f"outcome {n}") for n in range(1, 6))))
    assert "2 earlier changes: see the thread" in shown
    assert "outcome 5" in shown and "outcome 2" not in shown


def test_what_is_no_button_is_told_with_its_command_and_the_reason():
    shown = words(s.with_verdict(manuals=(s.MANUAL, s.MANUAL, s.MANUAL)))
    assert "By hand: raise max-num-seqs from 256 to 384.\nkubectl -n llm edit deployment/chat-70b" in shown
    assert "No button: set_engine_args is not a button yet" in shown
    assert "1 more by hand: see the thread" in shown


def test_an_inconclusive_card_says_what_is_not_known_and_offers_to_look_again():
    shown = words(s.inconclusive())
    assert "chat-70b · TTFT P99 not known (SLO 1 s) since 02:07" in shown
    assert "Inconclusive: cannot tell whether it is Under-provisioned or GPU memory errors." in shown
    assert "Ruled out: Long prompts" in shown
    assert "Not checked: TTFT P99, queue (Prometheus did not answer within 8 s)" in shown
    assert "Diagnose again" in buttons(s.inconclusive())
    assert "fine" not in shown and "ok" not in shown.lower().split()


def test_an_alert_without_runbook_and_service_says_so_and_what_would_mend_it():
    shown = words(s.without_runbook())
    assert "KubeletTooManyPods · alert since 02:07" in shown
    assert "No runbook: nothing was diagnosed, since no runbook's match names KubeletTooManyPods" in shown
    assert "No service: no service of fleet.yaml matches its labels (instance=10.0.3.7:9100)" in shown
    assert "Declare the service in fleet.yaml" in shown
    assert buttons(s.without_runbook()) == ["Ack", "⋯ Mark as resolved"]


def test_nobody_on_call_is_said():
    assert "Nobody is declared on call" in words(replace(s.without_runbook(), oncall=None))


def test_while_the_first_round_runs_the_card_says_that():
    shown = words(s.view())
    assert "Diagnosing: high_latency is being run." in shown
    assert lock_screen(s.view()) == "chat-70b: VLLMHighTTFT (VLLMQueueLong)."


def test_a_resolved_incident_says_how_long_it_took_and_what_fixed_it():
    shown = words(s.resolved())
    assert "chat-70b · fixed after 14 min (02:07 to 02:21)" in shown
    assert "It was: Under-provisioned: 138 requests wait" in shown
    assert "What fixed it: Scale chat-70b from 3 to 4 replicas (approved by @U02BOB)." in shown
    assert "Checked: TTFT P99 250–500 ms (SLO 1 s)." in shown
    assert "2 alerts resolved" in shown
    assert buttons(s.resolved()) == []
    assert lock_screen(s.resolved()) == "chat-70b: fixed after 14 min"


def test_what_could_not_be_checked_matters_at_the_end_only_if_the_end_is_doubtful():
    assert "Not checked" not in words(s.resolved())
    assert "Not checked" in words(s.resolved(signal=replace(s.FAST, low=0.5, high=2.5)))


def test_a_resolve_that_no_change_of_ours_explains_claims_none():
    shown = words(s.resolved(proposals=()))
    assert "resolved after 14 min" in shown and "fixed after" not in shown
    assert "All alerts resolved; no change of ours is known to have fixed it." in shown


UNDO = s.proposal(3, undoes="inc-142-p2", state=ProposalState.ENDED, started_at=s.at(13), applied=Applied.YES)


@pytest.mark.parametrize(
    "undo",
    [UNDO, replace(UNDO, state=ProposalState.INTERRUPTED, applied=None), replace(UNDO, state=ProposalState.RUNNING)],
)
def test_what_was_taken_back_or_may_have_been_is_not_what_fixed_it(undo):
    shown = words(s.resolved(proposals=(s.HELPED, undo)))
    assert "What fixed it" not in shown and "· resolved after 14 min" in shown
    assert "no change of ours is known to have fixed it" in shown
    assert "Helped: Scale chat-70b from 3 to 4 replicas: TTFT P99" in shown, "of several, each says which it is"


@pytest.mark.parametrize("undo", [replace(UNDO, started_at=s.at(60)), replace(UNDO, applied=Applied.NO)])
def test_what_was_in_place_at_the_end_fixed_it_whatever_was_taken_back_later(undo):
    assert "What fixed it: Scale chat-70b" in words(s.resolved(proposals=(s.HELPED, undo)))


def test_what_helped_before_the_trouble_came_back_is_not_what_fixed_it():
    view = s.resolved()
    flapped = replace(view, incident=replace(view.incident, flaps=1, reopened_at=s.at(13)))
    assert "What fixed it" not in words(flapped)
    since = replace(view, incident=replace(view.incident, flaps=1, reopened_at=s.at(5)))
    assert "What fixed it: Scale chat-70b" in words(since)


def test_alerts_that_resolve_while_the_signal_is_bad_are_not_called_fixed():
    shown = words(s.resolved(signal=s.SLOW))
    assert "! chat-70b · alerts resolved after 14 min, but it does not look over" in shown
    assert "But TTFT P99 2.5–5 s (SLO 1 s)" in shown


def test_a_storm_names_its_services_and_counts_the_rest():
    also = tuple(f"svc-{n}" for n in range(12))
    storm = s.incident(title=STORM_TITLE, target=Target(also=also), runbook=None, alert_names=("A", "B"))
    shown = words(s.view(incident=storm, runbook=None, service=None))
    assert "Alert storm · alerts about 12 services: svc-0, svc-1, svc-2, svc-3, svc-4, svc-5 and 6 more" in shown
    assert "Many services at once" in shown and "No service" not in shown


def test_further_services_of_one_node_are_named():
    target = Target(service="chat-70b", node="gpu-07", also=("chat-70b", "code-7b"))
    assert "also hits chat-70b, code-7b" in words(s.with_verdict(incident=s.incident(target=target)))
    shown = words(s.with_verdict(incident=s.incident(target=replace(target, service=None))))
    assert "gpu-07 ·" in shown and "· hits chat-70b, code-7b ·" in shown


def test_what_only_a_person_ends_says_so_while_it_is_open():
    xid = s.alert("GpuXid", ends_at=s.alert().starts_at)
    assert "somebody has to mark this as resolved" in words(s.with_verdict(alerts=(s.alert(), xid)))
    assert "has to mark this" not in words(s.with_verdict())
    assert "has to mark this" not in words(replace(s.resolved(), alerts=(xid,)))


def test_a_flapping_alert_is_counted():
    assert "since 02:07, fired 3 times" in words(s.with_verdict(incident=s.incident(flaps=2)))


def test_a_card_that_came_late_says_so():
    opened = s.incident().opened_at
    late = opened + timedelta(seconds=LATE_SECONDS + 42)
    card = Card(142, s.CHANNEL, f"{late.timestamp():.6f}", ".x", None)
    assert "Slack got this 1 min 12 s after the alert." in words(s.with_verdict(card=card))
    in_time = replace(card, ts=f"{opened.timestamp() + 2:.6f}")
    assert "Slack got this" not in words(s.with_verdict(card=in_time))


def test_a_card_that_went_to_another_channel_says_why():
    card = Card(142, s.DEFAULT_CHANNEL, None, None, None)
    assert f"Slack refused this in {s.CHANNEL}" in words(s.with_verdict(card=card))


def test_the_colour_is_the_severity():
    icons = {
        Severity.CRITICAL: ":red_circle:",
        Severity.WARNING: ":large_yellow_circle:",
        Severity.INFO: ":large_blue_circle:",
    }
    for severity, icon in icons.items():
        first = render(s.with_verdict(incident=s.incident(severity=severity))).parts[0]
        assert first.text.startswith(icon)


def test_at_most_four_evidence_lines():
    many = replace(s.UNDER_PROVISIONED, because=tuple(f"line {n}" for n in range(9)))
    (fields,) = [p for p in render(s.view(s.round_of(findings=(many,)))).parts if isinstance(p, Fields)]
    assert len(fields.fields) == 4


def test_foreign_names_are_shown_and_do_nothing():
    evil = s.incident(
        title="<!channel> *now*", target=Target(unresolved="<@U1>"), alert_names=("<!here>",), runbook=None
    )
    view = s.view(incident=evil, runbook=None, service=None, oncall=None)
    shown = message(render(view), marker="m", naming=called, rest="in the thread")
    assert "<!" not in str(shown.blocks).replace("<!date", "") and "<@" not in str(shown.blocks) + shown.text


@pytest.mark.parametrize("name", ["with_verdict", "inconclusive", "without_runbook", "running", "resolved"])
def test_slack_takes_every_card(name: str):
    shown = message(render(getattr(s, name)()), marker="card-inc-142", naming=called, rest="in the thread")
    assert validate_message(shown.blocks, shown.text) == () and block_problems(shown.blocks) == []
    actions = [b for b in shown.blocks if b["type"] == "actions"]
    assert sum(len(b["elements"]) for b in actions) <= 3


def test_a_menu_has_at_most_five_choices():
    many = [s.proposal(n, rule=f"r{n}", button=f"change {n}") for n in range(1, 9)]
    view = s.with_verdict(*many, replace(s.HELPED, number=20))
    assert len([b for b in buttons(view) if b.startswith("⋯")]) <= 5
    assert isinstance(render(view).parts[-1].buttons[0], Button)


def test_an_unclear_rule_beside_a_confirmed_one_does_not_hide_it():
    unclear = replace(s.GPU_UNCLEAR, verdict=Verdict.INCONCLUSIVE)
    assert "Under-provisioned:" in words(s.view(s.round_of(findings=(s.UNDER_PROVISIONED, unclear))))


def test_the_correction_of_the_usual_advice_is_short_on_the_card():
    noted = replace(s.UNDER_PROVISIONED, note="The usual advice changes nothing. Since vLLM 0.20 the default is 0.92.")
    shown = words(s.view(s.round_of(findings=(noted,))))
    assert "The usual advice changes nothing." in shown and "0.92" not in shown
