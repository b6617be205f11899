from prometheus_client.parser import text_string_to_metric_families

from sandbox.fleet.measurements import Histogram
from sandbox.fleet.text_format import Page


def page(hidden: tuple[str, ...] = (), **renamed: str) -> Page:
    return Page({"engine": "0", "model_name": 'a "model"\\'}, 1000.0, hidden, renamed)


def families(text: str):
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_labels_are_sorted_and_escaped():
    out = page()
    out.gauge("g", "about", ({"reason": "capacity"}, 3))
    assert 'g{engine="0",model_name="a \\"model\\"\\\\",reason="capacity"} 3.0' in out.text()
    assert families(out.text())["g"].samples[0].labels["model_name"] == 'a "model"\\'


def test_buckets_add_up_and_le_stands_in_its_place():
    histogram = Histogram((0.5, 1.0))
    for value in (0.1, 0.7, 9.0):
        histogram.observe(value)
    out = page()
    out.histogram("h", "about", ({}, histogram))
    assert 'h_bucket{engine="0",le="0.5",model_name=' in out.text()
    values = {(s.name, s.labels.get("le")): s.value for s in families(out.text())["h"].samples}
    assert values[("h_bucket", "0.5")] == 1
    assert values[("h_bucket", "1.0")] == 2
    assert values[("h_bucket", "+Inf")] == values[("h_count", None)] == 3


def test_a_counter_says_since_when_it_counts():
    out = page()
    out.counter("c", "about", ({}, 5), bare=True)
    assert "c_total 5.0" in out.text()
    assert "c_created 1000.0" in out.text()


def test_a_hidden_family_is_absent_and_a_renamed_one_has_its_new_name():
    out = page(("vllm:kv_*",), old_total="new_total")
    out.gauge("vllm:kv_cache_usage_perc", "about", ({}, 1))
    out.counter("old", "about", ({}, 1))
    assert "kv_cache" not in out.text()
    assert "old" not in out.text()
    assert "new_total{" in out.text()
