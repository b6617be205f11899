import pytest

from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from sandbox.bench.mixed import RUNBOOKS, STEPS, Measured, _section
from sandbox.bench.store import StoredRound


def test_its_runbook_asks_25_questions_with_as_many_probes_and_has_no_mistake() -> None:
    found = library([our_folder(), RUNBOOKS])
    assert not [m for m in found.mistakes if m.path.parent == RUNBOOKS]
    assert len({step.probe for step in found.runbooks["bench_mixed"].steps}) == STEPS


@pytest.mark.parametrize(("seconds", "met"), [(1.2, True), (1.3, False)])
def test_a_round_is_measured_against_its_slowest_question(seconds: float, met: bool) -> None:
    alone = [StoredRound(1, seconds, (1.0, *(0.5,) * (STEPS - 1)), ())]
    late = [StoredRound(1, 1.0, (1.0,) * STEPS, ("kv: found no free thread within 8 s",))]
    rows = _section(Measured(alone, late)).rows
    assert [row.met for row in rows if row.goal] == [True, met, True, True, False]
