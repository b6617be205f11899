"""A real Prometheus on a free loopback port: what it scrapes, which rules it evaluates, whom it tells.

Intervals are seconds and short, so that a story fits into a test. The first scrape of a new target still comes about
5 s after it is known: Prometheus passes discovered targets on at that pace, and no flag changes it.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import requests

from sandbox.addresses import free_port
from sandbox.part import Part, PartError, answers
from sandbox.started import Started


@dataclass(frozen=True)
class Job:
    """One scrape job: fixed targets (`host:port`), or a URL that lists them (HTTP service discovery), or both."""

    name: str
    targets: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)  # for the fixed targets
    http_sd_url: str | None = None
    metrics_path: str = "/metrics"
    bearer_token: str | None = None
    more: Mapping[str, Any] | None = None  # any other key of a scrape config, as Prometheus spells it


@dataclass(frozen=True)
class Sample:
    labels: Mapping[str, str]
    value: float  # may be NaN


class Prometheus(Started):
    """`start` may be called again after `stop` or `kill`: same port, same data."""

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job] = (),
        *,
        rules: Mapping[str, Any] | None = None,
        alertmanager_url: str | None = None,
        scrape_seconds: float = 1,
        evaluation_seconds: float = 1,
        resend_seconds: float = 10,
        external_labels: Mapping[str, str] | None = None,
        binary: str = "prometheus",
    ) -> None:
        if shutil.which(binary) is None:
            raise PartError(f"No program `{binary}`: apt-get install -y --no-install-recommends prometheus")
        self._folder = folder
        self._jobs = tuple(jobs)
        self._rules = dict(rules or {})
        self._alertmanager_url = alertmanager_url
        self._scrape_seconds = scrape_seconds
        self._evaluation_seconds = evaluation_seconds
        self._external_labels = dict(external_labels or {})
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.part = Part(
            "prometheus",
            [
                binary,
                f"--config.file={folder / 'prometheus.json'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.external-url={self.url}",
                "--web.enable-lifecycle",
                "--web.enable-admin-api",
                f"--rules.alert.resend-delay={duration(resend_seconds)}",
            ],
            log=folder / "prometheus.log",
            ready=answers(f"{self.url}/-/ready"),
        )

    def start(self) -> Self:
        self._write()
        self.part.start()
        return self

    def stop(self) -> None:
        self.part.stop()

    def kill(self) -> None:
        self.part.kill()

    def freeze(self) -> None:
        self.part.freeze()

    def thaw(self) -> None:
        self.part.thaw()

    def reload(self, rules: Mapping[str, Any] | None = None, jobs: Sequence[Job] | None = None) -> None:
        """Take over new rules (a rule file as a dict) or jobs. Raises PartError with Prometheus' own words if refused.

        What was there stays in force then, and on disk too, so that the next start does not trip over it.
        """
        before = self._rules, self._jobs
        if rules is not None:
            self._rules = dict(rules)
        if jobs is not None:
            self._jobs = tuple(jobs)
        self._write()
        answer = requests.post(f"{self.url}/-/reload", timeout=10)
        if answer.status_code != 200:
            self._rules, self._jobs = before
            self._write()
            raise PartError(f"prometheus refused its new configuration: {answer.text.strip()}\n{self.part.tail(5)}")

    def query(self, promql: str, at: datetime | None = None) -> list[Sample]:
        """An instant query, now or at a time. Raises PartError with the reason if Prometheus refuses it."""
        data = {"query": promql} | ({"time": str(at.timestamp())} if at else {})
        answer = requests.post(f"{self.url}/api/v1/query", data=data, timeout=10).json()
        if answer["status"] != "success":
            raise PartError(f"prometheus refused {promql!r}: {answer.get('error')}")
        found = answer["data"]
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in found["result"]]

    def wait_for(self, promql: str, condition: Callable[[list[Sample]], bool], seconds: float = 20) -> list[Sample]:
        """Ask until `condition` holds, and return the samples that satisfied it."""
        deadline = time.monotonic() + seconds
        while True:
            samples = self.query(promql)
            if condition(samples):
                return samples
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:.0f} s `{promql}` still gave {samples}\n{self.part.tail(5)}")
            time.sleep(0.1)

    def wait_until_up(self, job: str, count: int = 1, seconds: float = 20) -> None:
        """Block until `count` targets of the job have been scraped."""
        self.wait_for(f'up{{job="{job}"}} == 1', lambda up: len(up) >= count, seconds)

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML, so nothing has to be quoted by hand.
        (self._folder / "rules.json").write_text(json.dumps(self._rules))
        (self._folder / "prometheus.json").write_text(json.dumps(self._configuration(), indent=1))

    def _configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = {
            "global": {
                "scrape_interval": duration(self._scrape_seconds),
                "scrape_timeout": duration(self._scrape_seconds),
                "evaluation_interval": duration(self._evaluation_seconds),
                "external_labels": self._external_labels,
            },
            "rule_files": [str(self._folder / "rules.json")],
            "scrape_configs": [self._scrape(job) for job in self._jobs],
        }
        if self._alertmanager_url is not None:
            scheme, _, host = self._alertmanager_url.partition("://")
            configuration["alerting"] = {
                "alertmanagers": [{"scheme": scheme, "static_configs": [{"targets": [host.rstrip("/")]}]}]
            }
        return configuration

    def _scrape(self, job: Job) -> dict[str, Any]:
        scrape: dict[str, Any] = {"job_name": job.name, "metrics_path": job.metrics_path, **(job.more or {})}
        if job.targets:
            scrape["static_configs"] = [{"targets": list(job.targets), "labels": dict(job.labels)}]
        if job.http_sd_url is not None:
            # The default asks once a minute; a pod that has gone must be gone within a scrape or two.
            scrape["http_sd_configs"] = [{"url": job.http_sd_url, "refresh_interval": duration(self._scrape_seconds)}]
        if job.bearer_token is not None:
            scrape["authorization"] = {"credentials": job.bearer_token}
        return scrape


def duration(seconds: float) -> str:
    """Seconds as Prometheus and Alertmanager write them, to the millisecond."""
    return f"{round(seconds * 1000)}ms"
