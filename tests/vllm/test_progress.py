from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import Series
from bot.vllm.progress import EngineKey, EngineState, Scrape, judged, range_queries, scrapes_of
from tests.fakes import NOW, series

LIMIT = 120.0


def scrapes(*rows: "tuple[float, float, float]", every: float = 30) -> list[Scrape]:
    """(steps, running, waiting), the last of them now."""
    first = NOW - timedelta(seconds=every * (len(rows) - 1))
    return [Scrape(first + timedelta(seconds=every * n), (row[0],), row[1], row[2]) for n, row in enumerate(rows)]


def state(*rows: "tuple[float, float, float]", every: float = 30, asleep: bool = False) -> EngineState:
    return judged(scrapes(*rows, every=every), NOW, LIMIT, asleep=asleep).state


def test_with_work_all_the_time_and_no_step_it_hangs():
    found = judged(scrapes((90, 4, 0), *[(100, 4, n) for n in range(5)]), NOW, LIMIT, asleep=False)
    assert (found.state, found.running, found.waiting) == (EngineState.HUNG, 4, 4)
    assert found.still_seconds == 120


def test_requests_that_only_wait_are_work_too():
    assert state(*[(100, 0, 3)] * 6) is EngineState.HUNG


def test_without_a_step_for_less_than_the_limit_it_is_not_said_to_hang():
    found = judged(scrapes((90, 4, 0), *[(100, 4, 0)] * 4), NOW, LIMIT, asleep=False)
    assert found.state is EngineState.UNCLEAR
    assert "no step for 90 s" in found.why


def test_work_that_came_a_moment_ago_makes_no_hang_of_a_long_rest():
    assert state(*[(100, 0, 0)] * 9, (100, 1, 0)) is EngineState.UNCLEAR


def test_a_hang_needs_more_than_two_scrapes_to_be_seen():
    assert state((100, 4, 0), (100, 4, 0), every=115) is EngineState.UNCLEAR


def test_before_its_first_step_ever_it_may_be_compiling_and_is_not_said_to_hang():
    found = judged(scrapes(*[(0, 1, 2)] * 9), NOW, LIMIT, asleep=False)
    assert found.state is EngineState.UNCLEAR
    assert "not made a step since it started" in found.why


def test_requests_that_all_wait_for_another_engine_make_no_hang():
    rows = [replace(one, deferred=3) for one in scrapes(*[(100, 0, 3)] * 9)]
    found = judged(rows, NOW, LIMIT, asleep=False)
    assert found.state is EngineState.UNCLEAR
    assert "deferred" in found.why
    rows = [replace(one, deferred=2) for one in rows]  # one it could take up
    assert judged(rows, NOW, LIMIT, asleep=False).state is EngineState.HUNG
    rows = [replace(one, running=1, deferred=3) for one in rows]
    assert judged(rows, NOW, LIMIT, asleep=False).state is EngineState.HUNG


def test_steps_are_work():
    assert state((100, 4, 0), (200, 4, 0), (300, 4, 0)) is EngineState.WORKING


def test_one_long_step_between_two_scrapes_is_no_trouble():
    assert state((100, 4, 0), (200, 4, 0), (300, 4, 0), (300, 4, 0)) is EngineState.WORKING


def test_steps_while_requests_always_wait_are_saturation():
    assert state(*[(100 * n, 8, 20) for n in range(6)]) is EngineState.SATURATED
    assert state(*[(100 * n, 8, 20 * (n % 2)) for n in range(6)]) is EngineState.WORKING


def test_a_night_without_work_is_idle():
    assert state(*[(100, 0, 0)] * 10) is EngineState.IDLE


def test_between_two_requests_it_works():
    assert state((100, 0, 0), (150, 0, 0), (150, 0, 0)) is EngineState.WORKING


def test_asleep_is_said_before_hung():
    assert state(*[(100, 4, 2)] * 6, asleep=True) is EngineState.ASLEEP


def test_old_scrapes_say_nothing_of_now():
    later = NOW + timedelta(seconds=LIMIT + 1)
    found = judged(scrapes(*[(100, 4, 0)] * 6), later, LIMIT, asleep=False)
    assert found.state is EngineState.UNCLEAR
    assert "last scraped 121 s ago" in found.why


def test_a_replica_that_has_just_begun_to_report_is_neither_idle_nor_hung():
    assert state((0, 0, 0), (0, 0, 0)) is EngineState.UNCLEAR
    assert state((0, 1, 0)) is EngineState.UNCLEAR


def test_a_counter_that_starts_again_is_a_new_process_at_work():
    assert state((900, 4, 0), (900, 4, 0), (10, 4, 0)) is EngineState.WORKING


# ---------------------------------------------------------------------------------------------- out of Prometheus

LABELS = {"namespace": "llm", "pod": "chat-1", "engine": "0", "job": "vllm", "instance": "10.0.0.1:8000"}


def told(name: str, *values: float, **more: str) -> Series:
    return series(*values, **{**LABELS, "__name__": name, **more})


def scraped(*seconds_ago: float, **more: str) -> Series:
    """What `timestamp()` gives at each step."""
    return series(*[NOW.timestamp() - ago for ago in seconds_ago], **{**LABELS, **more})


def test_a_value_that_prometheus_repeats_is_one_scrape():
    values = [
        told("vllm:iteration_tokens_total_count", 1, 1, 2, 2),
        told("vllm:num_requests_running", 3, 3, 4, 4),
        told("vllm:num_requests_waiting", 0, 0, 5, 5),
    ]
    found = scrapes_of(values, [scraped(40, 40, 10, 10)])
    (rows,) = found.values()
    assert list(found) == [EngineKey("llm", "chat-1", "0")]
    assert [(NOW - row.at).total_seconds() for row in rows] == [40, 10]
    assert [(row.progress[0], row.running, row.waiting) for row in rows] == [(1, 3, 0), (2, 4, 5)]


def test_the_deferred_are_told_apart_from_those_that_wait_for_room():
    name = "vllm:num_requests_waiting_by_reason"
    values = [
        told("vllm:num_requests_running", 0),
        told("vllm:num_requests_waiting", 5),
        told(name, 2, reason="capacity"),
        told(name, 3, reason="deferred"),
        told(name, 2, reason="capacity", job="other"),
    ]
    (rows,) = scrapes_of(values, [scraped(10)]).values()
    assert [(row.waiting, row.deferred) for row in rows] == [(5, 3)]


def test_a_gap_of_prometheus_is_no_stretch_without_steps():
    # Prometheus stood still for a minute and repeats what it had before: that is one old scrape, and one new one.
    values = [
        told("vllm:iteration_tokens_total_count", 1, 1, 1, 1, 9),
        told("vllm:num_requests_running", 3, 3, 3, 3, 3),
        told("vllm:num_requests_waiting", 0, 0, 0, 0, 0),
    ]
    (rows,) = scrapes_of(values, [scraped(60, 60, 60, 60, 0)]).values()
    assert judged(rows, NOW, 15, asleep=False).state is EngineState.WORKING


def test_a_page_that_two_jobs_scrape_counts_once():
    values = [
        told(name, 1, 2, job=job)
        for job in ("a", "b")
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting")
    ]
    found = scrapes_of(values, [scraped(30, 0, job="a"), scraped(20, 1, job="b")])
    (rows,) = found.values()
    assert [(NOW - row.at).total_seconds() for row in rows] == [30, 0]


def test_engines_of_one_pod_are_kept_apart():
    values = [
        told(name, 1, 2, engine=engine)
        for engine in ("0", "1")
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting")
    ]
    found = scrapes_of(values, [scraped(30, 0, engine="0"), scraped(30, 0, engine="1")])
    assert sorted(key.engine for key in found) == ["0", "1"]


def test_without_running_and_waiting_nothing_is_known():
    assert scrapes_of([told("vllm:generation_tokens_total", 1, 2)], [scraped(30, 0)]) == {}


@pytest.mark.parametrize("name", ["iteration_tokens_total_count", "num_requests_running", "num_requests_waiting"])
def test_everything_is_asked_at_once(name):
    assert name in range_queries('pod="x"')[0]
