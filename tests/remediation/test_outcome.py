import math

import pytest

from bot.incidents.incident import SignalReading
from bot.remediation.outcome import judge, number_words, reading_words
from bot.remediation.proposal import Helped


def ttft(low=None, high=None, value=None, traffic: float | None = 10.0, **more) -> SignalReading:
    """A P99: a bucket. The SLO is 1 s."""
    value = value if value is not None else ((low or 0) + (high or low or 0)) / 2
    return SignalReading("TTFT P99", "seconds", 1.0, "above", value, low, high, traffic, **more)


def queue(value: float | None, *, threshold: float | None = 50, traffic: float | None = 10.0) -> SignalReading:
    return SignalReading("Queue", "count", threshold, "above", value, traffic=traffic)


BAD = ttft(2.5, 5.0)


def helped(before, after) -> Helped:
    return judge(before, after).helped


# ---------------------------------------------------------------------------------------------- by bucket


def test_back_within_the_threshold_by_the_whole_bucket_helped():
    outcome = judge(BAD, ttft(0.25, 0.5))
    assert outcome.helped is Helped.YES
    assert outcome.sentence == "TTFT P99 2.5–5 s → 0.25–0.5 s (limit 1 s), with 100 % of the traffic of before"


def test_the_same_bucket_did_not_help():
    outcome = judge(BAD, ttft(2.5, 5.0))
    assert outcome.helped is Helped.NO
    assert outcome.sentence.startswith("TTFT P99 2.5–5 s → 2.5–5 s (limit 1 s)")


def test_the_neighbouring_bucket_is_no_clear_fall():
    """2.6 s and 2.4 s lie in neighbouring buckets."""
    assert helped(BAD, ttft(1.0, 2.5)) is Helped.NO


def test_a_whole_bucket_between_is_a_clear_fall_though_not_yet_within():
    outcome = judge(ttft(5.0, 7.5), ttft(1.0, 2.5))
    assert outcome.helped is Helped.YES
    assert "better, though still beyond its limit" in outcome.sentence


def test_a_bucket_that_straddles_the_threshold_is_not_within_it():
    before, after = ttft(1.0, 2.5), ttft(0.75, 1.5)
    assert helped(before, after) is Helped.NO


def test_worse_is_said():
    outcome = judge(ttft(1.0, 2.5), ttft(5.0, 7.5))
    assert outcome.helped is Helped.NO and "worse than before" in outcome.sentence


def test_above_the_last_bucket_there_is_no_upper_edge():
    assert reading_words(ttft(2560.0, None)) == "over 2560 s"
    assert helped(ttft(2560.0, None), ttft(2560.0, None)) is Helped.NO
    assert helped(ttft(2560.0, None), ttft(80.0, 160.0)) is Helped.YES


# ---------------------------------------------------------------------------------------------- plain numbers


@pytest.mark.parametrize(
    ("after", "answer"), [(40, Helped.YES), (50, Helped.YES), (94, Helped.YES), (95, Helped.NO), (138, Helped.NO)]
)
def test_a_number_helped_when_half_of_what_was_beyond_the_threshold_is_gone(after, answer):
    assert helped(queue(138), queue(after)) is answer


def test_without_a_threshold_half_of_the_value_must_be_gone():
    assert helped(queue(100, threshold=None), queue(50, threshold=None)) is Helped.YES
    assert helped(queue(100, threshold=None), queue(51, threshold=None)) is Helped.NO


def test_where_low_is_bad_it_is_the_other_way_round():
    def ratio(value: float) -> SignalReading:
        return SignalReading("Success", "ratio", 0.99, "below", value, traffic=10)

    assert helped(ratio(0.90), ratio(0.995)) is Helped.YES
    assert helped(ratio(0.90), ratio(0.95)) is Helped.YES
    assert helped(ratio(0.90), ratio(0.91)) is Helped.NO
    assert helped(ratio(0.995), ratio(0.999)) is Helped.CANNOT_TELL


# ---------------------------------------------------------------------------------------------- cannot tell


@pytest.mark.parametrize("missing", [None, math.nan])
def test_no_data_is_no_proof(missing):
    for before, after in ((queue(138), queue(missing)), (queue(missing), queue(10))):
        outcome = judge(before, after)
        assert outcome.helped is Helped.CANNOT_TELL and "had no data" in outcome.sentence


def test_a_source_that_did_not_answer_is_told():
    outcome = judge(BAD, ttft(value=0.0, error="Prometheus: did not answer within 10 s"))
    assert outcome.helped is Helped.CANNOT_TELL
    assert "could not be read after it: Prometheus: did not answer" in outcome.sentence


def test_vanished_traffic_makes_any_signal_good():
    outcome = judge(BAD, ttft(0.25, 0.5, traffic=7.9))
    assert outcome.helped is Helped.CANNOT_TELL and "only 79 % of the traffic of before" in outcome.sentence
    assert helped(BAD, ttft(0.25, 0.5, traffic=8.0)) is Helped.YES


def test_unknown_traffic_is_not_enough_traffic():
    assert helped(BAD, ttft(0.25, 0.5, traffic=None)) is Helped.CANNOT_TELL
    assert helped(ttft(2.5, 5.0, traffic=None), ttft(0.25, 0.5)) is Helped.CANNOT_TELL


def test_what_is_still_bad_under_less_traffic_was_not_helped():
    assert helped(BAD, ttft(2.5, 5.0, traffic=1.0)) is Helped.NO
    assert helped(BAD, ttft(2.5, 5.0, traffic=None)) is Helped.NO


def test_a_signal_that_was_good_before_the_change_proves_nothing():
    outcome = judge(ttft(0.25, 0.5), ttft(0.1, 0.25))
    assert outcome.helped is Helped.CANNOT_TELL and "within its limit before the change" in outcome.sentence


def test_a_runbook_without_a_signal_cannot_tell():
    assert helped(None, None) is Helped.CANNOT_TELL
    assert helped(BAD, None) is Helped.CANNOT_TELL


def test_numbers_carry_their_units():
    assert number_words(0.0123, "seconds") == "12.3 ms"
    assert number_words(0.912, "ratio") == "91.2 %"
    assert number_words(84, "celsius") == "84 °C"
    assert reading_words(queue(138)) == "138"
    assert reading_words(queue(None)) == "no data"
