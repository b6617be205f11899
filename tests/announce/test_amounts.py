from dataclasses import replace

import pytest

from bot.announce.amounts import amount, amount_range, is_bad, reading
from tests.stories import FAST, SLOW


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (3.9, "seconds", "3.9 s"),
        (0.25, "seconds", "250 ms"),
        (0, "seconds", "0 s"),
        (400, "seconds", "6 min 40 s"),
        (0.912, "ratio", "91.2 %"),
        (1, "ratio", "100 %"),
        (83, "celsius", "83 °C"),
        (9.24, "per_minute", "9.24/min"),
        (138, "count", "138"),
        (13800, "count", "13,800"),
        (3, "GiB", "3 GiB"),
        (float("nan"), "seconds", "no data"),
        (float("inf"), "count", "∞"),
    ],
)
def test_a_number_has_its_unit_and_no_more_digits_than_help(value: float, unit: str, words: str):
    assert amount(value, unit) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (2.5, 5, "2.5–5 s"),
        (0.25, 0.5, "250–500 ms"),
        (0.5, 1, "0.5–1 s"),
        (0, 0.3, "< 300 ms"),
        (None, 0.3, "< 300 ms"),
        (80, float("inf"), "> 80 s"),
        (80, None, "> 80 s"),
        (None, None, "no data"),
        (5, 5, "5 s"),
    ],
)
def test_a_quantile_is_its_bucket(low: float | None, high: float | None, words: str):
    assert amount_range(low, high, "seconds") == words


def test_a_bucket_of_a_ratio_has_its_sign_once():
    assert amount_range(0.85, 0.9, "ratio") == "85–90 %"


def test_a_reading_is_the_bucket_the_value_or_what_is_missing():
    assert reading(SLOW) == "2.5–5 s"
    assert reading(replace(SLOW, low=None, high=None)) == "3.9 s"
    assert reading(replace(SLOW, low=None, high=None, value=None)) == "no data"
    assert reading(replace(SLOW, low=None, high=None, value=None, error="no answer")) == "not known"


def test_a_bucket_that_straddles_its_threshold_is_neither_good_nor_bad():
    assert is_bad(SLOW) is True
    assert is_bad(FAST) is False
    assert is_bad(replace(SLOW, low=0.5, high=2.5)) is None
    assert is_bad(replace(SLOW, low=None, high=None, value=None)) is None
    assert is_bad(replace(SLOW, threshold=None)) is None


def test_below_turns_the_sides_around():
    low = replace(SLOW, direction="below", threshold=0.5, low=None, high=None)
    assert is_bad(replace(low, value=0.4)) is True
    assert is_bad(replace(low, value=0.6)) is False
