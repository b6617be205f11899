"""The whole bot in one process, with nobody else there: it takes alerts in all the same."""

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from bot.app import App, ConfigurationError, connect, read_fleet, terminal
from bot.commands.dispatch import answer
from bot.gpu_readings import GpuEvent
from bot.outbound.terminal import render
from bot.settings import AgentAccess, Settings
from tests.fakes import NOW
from tests.test_cli import FLEET

WEBHOOK = json.loads((Path(__file__).parent / "payloads" / "am-webhook-firing-single.json").read_text())
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return Settings.model_validate(
        {
            "fleet": tmp_path / "fleet.yaml",
            "database_url": f"sqlite:///{tmp_path}/oncall.sqlite",
            "slack": {"bot_token": "xoxb-1", "app_token": "xapp-1", "api_url": f"{NOBODY}/api/", "timeout_seconds": 1},
            "prometheus": {"url": NOBODY, "timeout_seconds": 1},
            "alertmanager": {"url": NOBODY, "timeout_seconds": 1},
            "kubernetes": {"url": NOBODY, "timeout_seconds": 1},
            "intake": {"token": "secret", "host": "127.0.0.1", "port": 0},
        }
    )


def test_with_nobody_else_there_an_alert_is_on_disk_before_it_is_answered(settings):
    outside = connect(settings)
    app = App(outside)
    app.start()
    url = f"http://127.0.0.1:{app.port}"
    try:
        assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
        refused = requests.post(f"{url}/alertmanager", json=WEBHOOK, timeout=5)
        assert refused.status_code == 401
        taken = requests.post(
            f"{url}/alertmanager", json=WEBHOOK, headers={"Authorization": "Bearer secret"}, timeout=5
        )
        assert taken.status_code == 200
        with outside.store.read() as tx:
            assert [a.fingerprint for a in tx.firing()] == [WEBHOOK["alerts"][0]["fingerprint"]]
    finally:
        app.stop()


class AskedSlack:
    """Knows nobody, and keeps which methods were asked about whom."""

    def __enter__(self):
        asked = self.asked = queue.Queue()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
                asked.put(f"{self.path.rpartition('/')[2]} {body}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"ok": false, "error": "user_not_found"}')

            do_GET = do_POST

            def log_message(self, format, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def test_the_names_of_the_on_call_are_asked_for_before_an_alert_needs_them(settings):
    on_call = FLEET.replace('channel: "#inc"', 'channel: "#inc", oncall: U0ANN')
    settings.fleet.write_text(on_call)
    with AskedSlack() as slack:
        url = f"http://127.0.0.1:{slack.server.server_port}/api/"
        there = settings.slack.model_copy(update={"api_url": url})
        app = App(connect(settings.model_copy(update={"slack": there})))
        app.start()
        try:
            deadline = time.monotonic() + 20
            while not (asked := slack.asked.get(timeout=deadline - time.monotonic())).startswith("users.info"):
                pass
            assert "U0ANN" in asked
        finally:
            app.stop()


MINE = """
title: Mine
owner: me
symptoms: s
match: [{alertname: MyAlert}]
steps: [{id: queue, probe: vllm_queue, with: {service: $service}}]
rules: [{id: full, when: [queue.waiting > 50], severity: warning, title: Full, finding: f}]
"""


def test_a_folder_of_ones_own_stands_beside_ours_and_what_is_broken_in_it_takes_nothing_away(settings, caplog):
    folder = settings.fleet.parent / "runbooks"
    folder.mkdir()
    (folder / "mine.yaml").write_text(MINE)
    (folder / "worse.yaml").write_text(MINE.replace("queue.waiting", "queue.waitin"))
    (folder / "high_latency.yaml").write_text(MINE.replace("title:", "titel:"))
    outside = connect(settings.model_copy(update={"runbooks": (folder,)}))
    assert outside.runbooks["mine"].title == "Mine"
    assert "worse" not in outside.runbooks
    assert outside.runbooks["high_latency"].title == "High latency", "ours stays in force"
    app = App(outside)
    app.start()
    app.stop()
    logged = [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
    assert any("worse.yaml" in line and "did you mean 'queue.waiting'" in line for line in logged)
    assert any("high_latency.yaml" in line and "titel" in line for line in logged)
    shown = render(answer(["runbooks"], terminal(outside, "ann")))
    assert "mine Mine" in shown and "worse.yaml" in shown and "high_latency.yaml" in shown


def test_a_terminal_reads_and_proposes_nothing(settings):
    context = terminal(connect(settings), "ann")
    assert (context.user, context.propose, context.in_slack) == ("terminal:ann", None, False)


def test_a_fleet_file_that_is_not_there_says_which_setting_names_it(tmp_path):
    with pytest.raises(ConfigurationError, match="VLLM_ONCALL_FLEET"):
        read_fleet(tmp_path / "none.yaml")


def test_what_a_gpu_agent_reports_is_taken_in_as_an_alert(settings):
    outside = connect(settings.model_copy(update={"agent": AgentAccess(token=SecretStr("agents"))}))
    app = App(outside)
    event = GpuEvent(id="e1", seq=1, at=NOW, last_at=NOW, xid=79, gpu_uuid="GPU-1", pci="0000:1b:00")
    app._gpu_event("gpu-07", event)
    app._gpu_event("gpu-07", event)
    with outside.store.read() as tx:
        (alert,) = (delivery.alert for delivery in tx.deliveries(10))
        assert (alert.name, alert.labels["node"], alert.labels["xid"]) == ("GpuXid", "gpu-07", "79")
        assert tx.firing() == (), "its silence would be doubted"
