from bot.commands.request import RequestKind
from bot.incidents.alert import TakenIn, Truncation
from bot.incidents.incident import IncidentState, Round, RoundReason, ThreadMessage
from bot.remediation.proposal import ProposalState
from bot.report import Report
from tests.fixtures_store import NOW, a_proposal, an_alert, an_incident


def test_an_empty_store_waits_for_nothing(store):
    assert set(store.depths().values()) == {0}


def test_what_waits_is_counted_by_what_it_is_and_what_is_done_is_not(store):
    store.take_in_webhooks([TakenIn((an_alert("a"), an_alert("b")), Truncation("g", "r", 1, NOW))])
    with store.write() as tx:
        tx.save_incident(an_incident(1))
        tx.save_incident(an_incident(2, state=IncidentState.RESOLVED))
        tx.save_round(Round(1, 1, "high_latency", RoundReason.START, NOW, ended_at=NOW))
        tx.save_round(Round(1, 2, "high_latency", RoundReason.START, NOW))
        tx.show(1)
        tx.say(ThreadMessage(1, "round:1", Report("x")))
        tx.whisper("C1", "U1", Report("x"), NOW)
        for key in ("t1", "t2"):
            tx.ask(key=key, kind=RequestKind.CLICK, user="U1", channel="C1", payload={}, at=NOW)
        tx.acted_on(tx.requests(1)[0].id)
        for number, state in enumerate((ProposalState.APPROVED, ProposalState.RUNNING, ProposalState.ENDED), 1):
            tx.save_proposal(a_proposal(number, state=state))
    assert store.depths() == {
        "deliveries": 2,
        "truncated_groups": 1,
        "requests": 1,
        "rounds": 1,
        "cards": 1,
        "thread_messages": 1,
        "whispers": 1,
        "incidents_open": 1,
        "executions_approved": 1,
        "executions_running": 1,
    }
