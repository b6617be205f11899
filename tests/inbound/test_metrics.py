from prometheus_client.parser import text_string_to_metric_families

from bot.inbound.metrics import OwnMetrics, Reading
from bot.ports import SourceError


def told(*readings: Reading) -> dict[str, object]:
    """Every sample, by its name and label."""
    families = text_string_to_metric_families(OwnMetrics(readings).text().decode())
    return {s.name + "".join(f"|{v}" for v in s.labels.values()): s.value for f in families for s in f.samples}


def test_numbers_are_read_when_they_are_asked_for():
    number = [1.0]
    metrics = OwnMetrics([Reading("waiting", "How many wait.", lambda: number[0])])
    assert b"vllm_oncall_waiting 1.0" in metrics.text()
    number[0] = 2.0
    assert b"vllm_oncall_waiting 2.0" in metrics.text()


def test_a_counter_is_one_by_name_and_type():
    text = OwnMetrics([Reading("alerts", "Alerts.", lambda: 3, counts=True)]).text().decode()
    assert "# TYPE vllm_oncall_alerts_total counter" in text
    assert "vllm_oncall_alerts_total 3.0" in text


def test_a_mapping_is_a_series_for_each_value_of_its_label():
    seen = told(Reading("due", "Due.", lambda: {"rounds": 2, "cards": 0}, "what"))
    assert (seen["vllm_oncall_due|rounds"], seen["vllm_oncall_due|cards"]) == (2, 0)


def test_a_number_that_is_not_known_is_left_out_and_the_others_are_told():
    def away() -> float:
        raise SourceError("Database", "does not answer")

    seen = told(Reading("due", "Due.", away), Reading("leads", "Leads.", lambda: 1))
    assert "vllm_oncall_due" not in seen
    assert seen["vllm_oncall_leads"] == 1
    assert seen["vllm_oncall_metrics_unread"] == 1


def test_the_process_tells_of_itself():
    assert told()["process_resident_memory_bytes"] > 1_000_000
