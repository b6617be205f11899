"""A real Alertmanager on a free loopback port: whom it tells (a webhook, Slack), and how it groups.

`start` after `stop` or `kill` keeps the port and the storage, as a restarted pod with a volume does.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests

from sandbox.addresses import free_port
from sandbox.part import Part, PartError, answers
from sandbox.prometheus import duration
from sandbox.started import Started


@dataclass(frozen=True)
class Webhook:
    """The bot's intake. `matchers` in Alertmanager's own syntax; empty = every alert."""

    url: str
    bearer_token: str | None = None
    max_alerts: int = 0  # 0 = all
    matchers: Sequence[str] = ()

    def receiver(self) -> dict[str, Any]:
        http: dict[str, Any] = {"authorization": {"credentials": self.bearer_token}} if self.bearer_token else {}
        hook = {"url": self.url, "max_alerts": self.max_alerts, "send_resolved": True, "http_config": http}
        return {"webhook_configs": [hook]}


@dataclass(frozen=True)
class Slack:
    """Alertmanager's own Slack notifier, through the Web API with a bot token (not an incoming webhook)."""

    api_url: str  # …/api/chat.postMessage
    channel: str
    bot_token: str
    matchers: Sequence[str] = ()
    send_resolved: bool = False

    def receiver(self) -> dict[str, Any]:
        slack = {
            "api_url": self.api_url,
            "channel": self.channel,
            "send_resolved": self.send_resolved,
            "http_config": {"authorization": {"credentials": self.bot_token}},
        }
        return {"slack_configs": [slack]}


@dataclass(frozen=True)
class Grouping:
    by: Sequence[str] = ("alertname", "namespace", "service")
    wait_seconds: float = 0
    interval_seconds: float = 1  # 0 is refused, here and for the next
    repeat_seconds: float = 3600


def configuration(receivers: Sequence[Webhook | Slack], grouping: Grouping) -> dict[str, Any]:
    """Each receiver gets every alert that its matchers let through, whatever the others get."""
    names = [f"{type(receiver).__name__.lower()}-{position}" for position, receiver in enumerate(receivers)]
    route = {
        "receiver": "nobody",
        "group_by": list(grouping.by),
        "group_wait": duration(grouping.wait_seconds),
        "group_interval": duration(grouping.interval_seconds),
        "repeat_interval": duration(grouping.repeat_seconds),
        "routes": [
            {"receiver": name, "continue": True, "matchers": list(receiver.matchers)}
            for name, receiver in zip(names, receivers, strict=True)
        ],
    }
    named = [{"name": name, **receiver.receiver()} for name, receiver in zip(names, receivers, strict=True)]
    return {"route": route, "receivers": [{"name": "nobody"}, *named]}


class Alertmanager(Started):
    def __init__(
        self,
        folder: Path,
        receivers: Sequence[Webhook | Slack] = (),
        grouping: Grouping | None = None,
        *,
        binary: str = "prometheus-alertmanager",
    ) -> None:
        if shutil.which(binary) is None:
            raise PartError(
                f"No program `{binary}`: apt-get install -y --no-install-recommends prometheus-alertmanager"
            )
        self._folder = folder
        self._config = configuration(receivers, grouping or Grouping())
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.part = Part(
            "alertmanager",
            [
                binary,
                f"--config.file={folder / 'alertmanager.json'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.external-url={self.url}",  # else links in the payload name this machine
                "--cluster.listen-address=",  # else it gossips on all interfaces
            ],
            log=folder / "alertmanager.log",
            ready=answers(f"{self.url}/-/ready"),
        )

    def start(self) -> Self:
        self._write()
        self.part.start()
        return self

    def stop(self) -> None:
        self.part.stop()

    def kill(self) -> None:
        """As a crash: what the notification log learned since its last snapshot (15 min) is forgotten."""
        self.part.kill()

    def freeze(self) -> None:
        self.part.freeze()

    def thaw(self) -> None:
        self.part.thaw()

    def reload(self, config: Mapping[str, Any]) -> None:
        """Take over a whole configuration file, given as a dict. Raises PartError with the reason if refused."""
        before, self._config = self._config, dict(config)
        self._write()
        answer = requests.post(f"{self.url}/-/reload", timeout=10)
        if answer.status_code != 200:
            self._config = before
            self._write()
            raise PartError(f"alertmanager refused its new configuration: {answer.text.strip()}")

    def post_alerts(self, *alerts: Mapping[str, Any], seconds: float = 10) -> None:
        """Fire or resolve alerts, as `POST /api/v2/alerts` takes them: labels, annotations, startsAt, endsAt."""
        try:
            answer = requests.post(f"{self.url}/api/v2/alerts", json=list(alerts), timeout=seconds)
        except requests.RequestException as error:
            raise PartError(f"alertmanager took no alerts: {error}") from error
        if answer.status_code != 200:
            raise PartError(f"alertmanager refused the alerts: {answer.text}")

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds now: firing alerts, silenced ones too; resolved ones are not listed."""
        found: list[dict[str, Any]] = requests.get(f"{self.url}/api/v2/alerts", timeout=10).json()
        return found

    def silences(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = requests.get(f"{self.url}/api/v2/silences", timeout=10).json()
        return found

    def expire_silence(self, silence: str) -> None:
        """As a person who lifts it."""
        requests.delete(f"{self.url}/api/v2/silence/{silence}", timeout=10).raise_for_status()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "alertmanager.json"
        file.touch(mode=0o600)  # tokens are in it
        file.write_text(json.dumps(self._config, indent=1))
