import math

import pytest

from bot.ports import Sample
from bot.vllm.buckets import quantile_query, quantile_range
from tests.fakes import NOW


def buckets(**counts):
    """le_0_5=3 is the bucket le="0.5" with 3 observations at or below."""
    edges = {name.removeprefix("le_").replace("_", "."): value for name, value in counts.items()}
    return [Sample({"le": "+Inf" if edge == "inf" else edge}, value, NOW) for edge, value in edges.items()]


def test_a_quantile_is_the_bucket_it_falls_into():
    found = quantile_range(0.99, buckets(le_1=50, le_2_5=60, le_5=100, le_inf=100))
    assert (found.low, found.high) == (2.5, 5.0)
    assert found.value == pytest.approx(2.5 + 2.5 * (99 - 60) / 40)


def test_the_first_bucket_starts_at_zero():
    found = quantile_range(0.99, buckets(le_0_3=8, le_0_5=8, le_inf=8))
    assert (found.low, found.high) == (0.0, 0.3)


def test_above_the_last_bucket_the_high_edge_is_open():
    found = quantile_range(0.99, buckets(le_1=10, le_2=20, le_inf=100))
    assert (found.low, found.high, found.value) == (2.0, None, 2.0)


def test_nothing_observed_is_not_known():
    assert quantile_range(0.99, buckets(le_1=0, le_inf=0)) is None
    assert quantile_range(0.99, []) is None


def test_without_an_infinite_bucket_the_total_is_not_known():
    assert quantile_range(0.99, buckets(le_1=10, le_2=20)) is None


def test_nan_rates_do_not_count():
    assert quantile_range(0.99, buckets(le_1=math.nan, le_inf=math.nan)) is None


def test_series_that_differ_in_other_labels_are_added_up():
    one = [Sample({"le": "1", "pod": "a"}, 10, NOW), Sample({"le": "+Inf", "pod": "a"}, 10, NOW)]
    other = [Sample({"le": "1", "pod": "b"}, 0, NOW), Sample({"le": "2", "pod": "b"}, 90, NOW)]
    other += [Sample({"le": "+Inf", "pod": "b"}, 90, NOW)]
    found = quantile_range(0.5, one + other + [Sample({"le": "2", "pod": "a"}, 10, NOW)])
    assert (found.low, found.high) == (1.0, 2.0)


def test_a_histogram_quantile_is_taken_apart():
    query = 'histogram_quantile(0.99, sum by (le) (rate(vllm:x_bucket{pod=~"a(b|c)|d)"}[5m])))'
    asked = quantile_query(query)
    assert asked.quantile == 0.99
    assert asked.buckets == 'sum by (le) (rate(vllm:x_bucket{pod=~"a(b|c)|d)"}[5m]))'


@pytest.mark.parametrize(
    "query",
    [
        "sum(vllm:num_requests_waiting)",
        "histogram_quantile(0.99, a) / histogram_quantile(0.5, b)",
        "1 + histogram_quantile(0.99, a)",
        "histogram_quantile(0.9.9, a)",
        "histogram_quantile($q, a)",
    ],
)
def test_what_is_no_single_quantile_is_left_alone(query):
    assert quantile_query(query) is None
