import json
import sqlite3

from bot.outbound.store import SqlStore
from sandbox.bench.store import BotStore


def test_it_reads_what_the_bot_wrote(tmp_path):
    file = tmp_path / "oncall.sqlite"
    SqlStore.open(f"sqlite:///{file}").close()
    store = BotStore(tmp_path)
    assert (store.latest_incident(), store.alerts_waiting(), store.messages_waiting()) == (0, 0, 0)
    assert store.oldest_word() == 0
    observations = [{"step": "kv", "error": None, "seconds": 0.5}, {"step": "gpu", "error": "gone", "seconds": 0.25}]
    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT INTO incident (number, state, severity, title, target, channel, opened_at, began_at, alert_names,"
            " flaps, reminded) VALUES (7, 'open', 'critical', 't', '{}', 'C1', 1, 1, '[]', 0, 0)"
        )
        connection.execute(
            "INSERT INTO round (incident, number, runbook, reason, due_at, started_at, ended_at, observations,"
            " findings) VALUES (7, 1, 'r', 'start', 0, 1000000, 1600000, ?, '[]')",
            (json.dumps(observations),),
        )
    assert store.latest_incident() == 7
    assert store.is_open(7)
    (round,) = store.rounds(7)
    assert (round.seconds, round.probe_seconds, round.failed) == (0.6, (0.5, 0.25), ("gpu: gone",))
    assert (round.ended_at, store.opened_at(7)) == (1.6, 1e-6)
    assert store.cards() == [(None, None)]
