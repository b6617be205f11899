from dataclasses import replace
from datetime import timedelta

from bot.probes.known_good import known_good
from bot.vllm.references import KNOWN_GOOD_REVISION
from tests.fakes import NOW
from tests.probes.fleets import world


def history(*ages_days: float, annotation=None):
    """Revisions by how many days ago they were made, the oldest first; numbered from 1."""
    _, cluster, ref = world()
    for _ in ages_days[1:]:
        cluster.add_revision(ref)
    newest_first = cluster.history[ref]
    made = zip(newest_first, reversed(ages_days), strict=True)
    revisions = [replace(one, created_at=NOW - timedelta(days=age)) for one, age in made]
    workload = cluster.workloads[ref]
    if annotation is not None:
        named = revisions[int(annotation)].replica_set if annotation.startswith("-") else annotation
        workload = replace(workload, annotations={KNOWN_GOOD_REVISION: named})
    return workload, revisions


def test_the_last_that_served_long_is_good_and_one_replaced_soon_is_passed_over():
    found, _ = known_good(*history(30, 10, 0.02, 0.01))
    assert (found.revision.number, found.declared) == (2, False)
    assert found.words == "revision 2, which served for 10 days"


def test_what_people_declare_goes_before_that():
    found, _ = known_good(*history(30, 10, 0.01, annotation="1"))
    assert (found.revision.number, found.declared) == (1, True)


def test_a_replica_sets_name_serves_as_well():
    found, _ = known_good(*history(30, 10, 0.01, annotation="-1"))
    assert (found.revision.number, found.declared) == (1, True)


def test_a_revision_that_is_gone_is_said_to_be_gone():
    found, why = known_good(*history(30, 10, annotation="7"))
    assert found is None
    assert "names 7, which is not there; there are: 2, 1" in why


def test_if_none_served_long_the_one_before_is_taken_and_that_is_said():
    found, _ = known_good(*history(0.02, 0.01))
    assert found.revision.number == 1
    assert "the one before and served for 14 min only" in found.words


def test_a_single_revision_has_nothing_to_be_compared_with():
    found, why = known_good(*history(30))
    assert found is None
    assert KNOWN_GOOD_REVISION in why


def test_what_was_put_back_is_not_compared_with_what_it_replaced():
    workload, revisions = history(30, 10)
    back = replace(revisions[1], number=3)  # taken up again under a new number
    found, why = known_good(workload, [back, revisions[0]])
    assert found is None
    assert why == "revision 3 was itself put back in place of a later one"
