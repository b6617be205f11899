import pytest

from bot.runbook.words import amount, broken, filled, names_in, sentence, written


def test_readings_and_targets_are_named_in_braces_or_bare():
    assert names_in("${queue.waiting} wait on $service. See $slo.ttft_p99_seconds.") == (
        "queue.waiting",
        "service",
        "slo.ttft_p99_seconds",
    )


def test_a_full_stop_after_a_name_ends_the_sentence():
    assert sentence("It is $service.", {}, {"service": "chat"}).value == "It is chat."


def test_a_text_that_is_one_name_keeps_the_values_type():
    assert filled({"add": "${queue.add}", "to": ["$service"]}, {"queue.add": 2, "service": "chat"}).value == {
        "add": 2,
        "to": ["chat"],
    }


def test_what_is_not_known_is_told():
    found = filled("sum(x{$selector}[$window])", {"selector": 'pod="a"', "window": None})
    assert found.unknown == ("window",)


def test_two_dollars_are_one():
    assert filled("echo $$HOME $service", {"service": "chat"}).value == "echo $HOME chat"


@pytest.mark.parametrize("text", ["costs $5", "$(date)", "echo $HOME", "${a.b.c}", "${Service}"])
def test_a_lone_dollar_is_a_mistake(text):
    assert "$$" in broken(text)
    assert broken({"a": ["fine", text]}) is not None


def test_a_sentence_says_not_known_where_nothing_is_known():
    found = sentence("GPU ${gpu.busy_ratio_mean} busy", {"gpu": {"busy_ratio_mean": None}}, {})
    assert found.value == "GPU not known busy"
    assert found.unknown == ("gpu.busy_ratio_mean",)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("queue.waiting", 138, "138"),
        ("usage_ratio_max", 0.914, "91 %"),
        ("usage_ratio_max", 0.004, "0.4 %"),
        ("tpot_ratio", 1.93, "1.9×"),
        ("load_ratio", 1.02, "102 %"),
        ("growth_per_minute", 9.3, "9.3/min"),
        ("finished_per_second", 12.7, "13/s"),
        ("ttft_seconds", 0.0214, "21 ms"),
        ("ttft_seconds", 2.5, "2.5 s"),
        ("ttft_seconds", 400, "6 min 40 s"),
        ("minutes_before_start", 12.4, "12 min"),
        ("minutes_before_start", 43200.0, "30 days"),
        ("minutes_before_start", 0.5, "30 s"),
        ("capacity_tokens", 2_115_000, "2.12M tokens"),
        ("max_model_len", 16384, "16384"),
        ("memory_bytes", 8 * 2**30, "8 GiB"),
        ("chunked_prefill", False, "off"),
        ("pods", ["a", "b"], "a, b"),
        ("version", "0.32.0", "0.32.0"),
        ("temperature_celsius", 84.6, "85 °C"),
    ],
)
def test_amounts_carry_the_unit_of_their_name(name, value, text):
    assert written(name, value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (2.5, 5.0, "2.5–5 s"),
        (0.75, 1.0, "750 ms–1 s"),
        (0.0, 0.3, "under 300 ms"),
        (80.0, None, "over 80 s"),
        (None, None, None),
    ],
)
def test_a_quantile_is_shown_as_the_range_it_is(low, high, text):
    reading = {"ttft_p99_low_seconds": low, "ttft_p99_high_seconds": high}
    assert amount("ttft_p99_seconds", reading) == text


def test_a_name_that_is_neither_field_nor_range_is_not_known():
    assert amount("nothing", {"a": 1}) is None
