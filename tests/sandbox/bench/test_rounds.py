from sandbox.bench import rounds
from sandbox.bench.store import StoredRound
from sandbox.bench.table import Row, missed


def measured(seconds: float, *failed: str) -> list[Row]:
    """Of a round whose slowest question takes a second."""
    stored = StoredRound(1, seconds, (1.0, 0.5, 0.3), failed)
    return list(rounds._section([stored] * 3).rows)


def test_a_round_may_take_a_quarter_longer_than_its_slowest_question():
    assert not any(row.met is False for row in measured(1.25))
    assert [row.what.strip() for row in measured(1.26) if row.met is False] == ["as a multiple of its slowest question"]


def test_a_question_without_an_answer_is_named_and_misses_the_goal():
    # Fast, because it did not ask: such a round must not pass.
    (row,) = [row for row in measured(1.0, "kv: Prometheus: did not answer") if row.met is False]
    assert row.measured == "kv: Prometheus: did not answer"


def test_one_bad_round_among_good_ones_does_not_hide():
    good, bad = StoredRound(1, 1.1, (1.0,), ()), StoredRound(2, 3.0, (1.0,), ("kv: gone",))
    section = rounds._section([good, good, bad])
    assert missed([section]) == 1
    assert any("worst 3.00 x" in row.measured for row in section.rows)
