import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sandbox.alertmanager import Alertmanager
from sandbox.part import PartError
from sandbox.prometheus import Job, Prometheus
from sandbox.replay import Replay
from tests.fixtures_metrics import IDLE, PRESSURE

WAITING = "vllm:num_requests_waiting"


@contextmanager
def http_sd(groups: list[dict]) -> Iterator[str]:
    """Lists targets as Prometheus' HTTP service discovery wants them."""

    class Listing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(groups).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def alert_rules(expr: str) -> dict:
    rule = {"alert": "QueueLong", "expr": expr, "for": "0s", "labels": {"severity": "warning", "service": "chat"}}
    return {"groups": [{"name": "test", "interval": "1s", "rules": [rule]}]}


def test_it_finds_its_targets_by_service_discovery_with_their_labels(tmp_path):
    with (
        Replay(IDLE) as vllm,
        http_sd([{"targets": [vllm.target], "labels": {"pod": "chat-0"}}]) as url,
        Prometheus(tmp_path, [Job("vllm", http_sd_url=url)]) as prometheus,
    ):
        prometheus.wait_until_up("vllm")
        assert prometheus.query(WAITING)[0].labels["pod"] == "chat-0"


def test_an_alert_travels_from_a_metric_to_the_webhook_and_back(tmp_path, alertmanager: Alertmanager, webhook_listener):
    with Replay(IDLE) as vllm:
        rules = alert_rules(f"{WAITING} > 10")
        with Prometheus(tmp_path, [Job("vllm", [vllm.target])], rules=rules, alertmanager_url=alertmanager.url) as part:
            part.wait_for(WAITING, lambda found: [sample.value for sample in found] == [0])
            vllm.show(PRESSURE)
            assert webhook_listener.next()["status"] == "firing"
            vllm.show(IDLE)
            assert webhook_listener.next()["status"] == "resolved"


def test_the_captures_replayed_show_the_rise(tmp_path):
    with Replay(IDLE) as vllm, Prometheus(tmp_path, [Job("vllm", [vllm.target])]) as prometheus:
        prometheus.wait_for(WAITING, lambda found: [sample.value for sample in found] == [0])
        vllm.show(PRESSURE)
        prometheus.wait_for("increase(vllm:num_preemptions_total[30s])", lambda found: any(s.value > 0 for s in found))


def test_data_survives_kill_and_restart_on_the_same_address(tmp_path):
    with Replay(IDLE) as vllm, Prometheus(tmp_path, [Job("vllm", [vllm.target])]) as prometheus:
        prometheus.wait_until_up("vllm")
        prometheus.kill()
        prometheus.start()
        # The new process has scraped nothing yet; that the first one did is in the data folder.
        assert prometheus.query("count_over_time(up[1m])")


def test_refused_rules_change_nothing_and_say_why(tmp_path):
    with Prometheus(tmp_path, rules=alert_rules("vector(1)")) as prometheus:
        with pytest.raises(PartError, match="parse error"):
            prometheus.reload(rules=alert_rules("sum by ("))
        prometheus.stop()
        prometheus.start()
        prometheus.wait_for("ALERTS", lambda found: len(found) == 1)


def test_waiting_for_what_never_comes_shows_what_was_there(tmp_path):
    with Prometheus(tmp_path) as prometheus, pytest.raises(TimeoutError, match="still gave"):
        prometheus.wait_for("vector(1)", lambda found: found[0].value == 2, seconds=0.3)


def test_a_refused_query_is_an_error_and_nan_is_a_value(idle_prometheus: Prometheus):
    with pytest.raises(PartError, match="parse error"):
        idle_prometheus.query("sum(")
    assert math.isnan(idle_prometheus.query("vector(0)/0")[0].value)


def test_without_the_program_the_error_names_the_package(tmp_path):
    with pytest.raises(PartError, match="apt-get install"):
        Prometheus(tmp_path, binary="no-such-prometheus")
