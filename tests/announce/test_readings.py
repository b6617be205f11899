import pytest

from bot.announce.readings import in_words, missing, short


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("busy_ratio", 0.97, "busy 97 %"),
        ("usage_ratio_max", 0.952, "usage max 95.2 %"),
        ("growth_per_minute", 9.2, "growth 9.2/min"),
        ("finished_per_second", 0.713, "finished 0.713/s"),
        ("queue_mean_seconds", 0.25, "queue mean 250 ms"),
        ("memory_bytes", 80 * 2**30, "memory 80 GiB"),
        ("capacity_tokens", 2048, "capacity 2,048 tokens"),
        ("minutes_before_start", 12, "before start 12 min"),
        ("temperature_celsius", 83, "temperature 83 °C"),
        ("waiting", 138, "waiting 138"),
        ("chunked_prefill", True, "chunked prefill yes"),
        ("rolling_out", False, "rolling out no"),
        ("longest_phase", "queue", "longest phase queue"),
    ],
)
def test_a_field_says_its_unit_with_its_value(field: str, value: object, words: str):
    assert in_words({field: value}) == [words]


def test_two_edges_are_one_range():
    assert in_words({"ttft_p99_low_seconds": 2.5, "ttft_p99_high_seconds": 5.0}) == ["ttft p99 2.5–5 s"]
    assert in_words({"ttft_p99_low_seconds": 80.0, "ttft_p99_high_seconds": None}) == ["ttft p99 > 80 s"]
    assert in_words({"prompt_p99_low_tokens": 200, "prompt_p99_high_tokens": 500}) == ["prompt p99 200–500 tokens"]


def test_what_is_not_known_is_left_to_missing_and_told_if_there_is_nothing_else():
    assert in_words({"waiting": 1, "busy_ratio": None, "missing": "not exported"}) == ["waiting 1"]
    assert in_words({"ttft_p99_low_seconds": None, "ttft_p99_high_seconds": None, "missing": "x"}) == ["not known"]
    assert missing({"missing": "not exported"}) == "not exported"
    assert missing({"missing": None}) is None and missing(None) is None and missing({}) is None


def test_lists_and_maps_are_words_and_long_ones_are_counted():
    assert in_words({"by_pod": {"chat-a": 3, "chat-b": None}}) == ["by pod: chat-a 3, chat-b not known"]
    assert in_words({"changes": ["image v1 → v2"]}) == ["changes: image v1 → v2"]
    assert in_words({"changes": []}) == ["changes: none"]
    assert in_words({"pods": [str(n) for n in range(12)]})[0].endswith("and 4 more")
    assert in_words({"pods": [{"name": "a", "busy_ratio": 0.5}]}) == ["pods: (name a, busy_ratio 50 %)"]


def test_foreign_words_do_nothing():
    assert in_words({"reason": "<!channel> *x*"}) == ["reason &lt;!channel&gt; ∗x∗"]


def test_long_words_are_cut_visibly():
    assert short("a\n  b") == "a b"
    assert len(short("x" * 500)) == 100 and short("x" * 500).endswith("…")
