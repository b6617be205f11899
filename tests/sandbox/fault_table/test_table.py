from datetime import UTC, datetime

from bot.incidents.incident import Round, RoundReason, Target
from bot.incidents.judge import Finding, Observation, Verdict
from bot.runbook.schema import Severity
from sandbox.fault_table.bot_side import Diagnosed
from sandbox.fault_table.grading import graded
from sandbox.fault_table.outcome import Outcome
from sandbox.fault_table.rows import Row
from sandbox.fault_table.table import Table

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def outcome(expect, *findings, **more):
    row = Row.model_validate(
        {
            "name": "hung",
            "fault": "the worker is frozen",
            "part": "fleet",
            "runbook": "engine_down",
            "alert": {},
            "shows": [{"promql": "up", "above": 0}],
            "expect": expect,
        }
    )
    seen = Observation("engine", "vllm_engine", "Does it work?", {"hung": 1, "idle": None}, None, 0.1)
    ended = Round(1, 1, "engine_down", RoundReason.START, NOW, findings=findings, observations=(seen,))
    found = Diagnosed("engine_down", Target(service="chat"), ended, 0.42)
    return Outcome(row, graded(expect, findings), found, 20.0, **more)


def finding(rule, verdict):
    return Finding(rule, verdict, Severity.CRITICAL, rule, f"{rule} it is")


def printed(*outcomes):
    lines = []
    table = Table(lines.append)
    table.head()
    for one in outcomes:
        table.add(one)
    table.foot()
    return "\n".join(lines)


def test_a_line_holds_fault_verdict_expected_seconds_and_the_other_tool():
    text = printed(
        outcome({"hung": "confirmed"}, finding("hung", Verdict.CONFIRMED), doctor="queue_pressure (warning)")
    )
    line = next(line for line in text.splitlines() if "frozen" in line)
    assert [word for word in ("hung", "right", "0.4", "queue_pressure (warning)") if word not in line] == []
    assert "1 rows: 1 right, 0 inconclusive, 0 wrong, 0 in which the fault could not be shown" in text


def test_what_was_wrong_is_told_in_full_at_the_end():
    text = printed(outcome({"hung": "confirmed"}, finding("hung", Verdict.RULED_OUT)))
    assert "0 right, 0 inconclusive, 1 wrong" in text
    assert "hung is ruled out, expected confirmed" in text
    assert "engine = hung=1  [0.10 s]" in text


def test_a_fault_that_was_not_shown_is_no_verdict():
    one = outcome({"hung": "confirmed"})
    lost = Outcome(one.row, None, None, 3.0, error="NotShownError: the queue stays empty")
    text = printed(lost)
    assert "1 in which the fault could not be shown" in text
    assert "hung: NotShownError: the queue stays empty" in text
    assert not lost.right


def test_a_row_that_was_looked_at_twice_says_so_and_how_it_is_played_alone():
    text = printed(outcome({"hung": "confirmed"}, finding("hung", Verdict.CONFIRMED), looks=2))
    assert "right (looked" in text and "again)" in text
    assert "hung: the worker is frozen" in text
