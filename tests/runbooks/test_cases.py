from pathlib import Path

import pytest

from bot.incidents.cases import run
from bot.runbook.checking import check, library
from bot.runbook.loading import our_folder

CASES = Path(__file__).parent
RUNBOOKS = library([our_folder()]).runbooks


def test_every_runbook_has_its_case_file():
    assert [str(mistake) for mistake in check([our_folder()], cases=CASES)] == []


@pytest.mark.parametrize("name", sorted(RUNBOOKS))
def test_every_rule_is_shown_confirmed_ruled_out_and_inconclusive(name):
    assert [str(mistake) for mistake in run(RUNBOOKS[name], CASES / f"{name}.yaml")] == []
