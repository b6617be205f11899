"""All parts together. `Ground` is what takes long to start and can be shared: the Kubernetes control plane, the fleet,
Slack. `World` is one story on it: a namespace with services under load, Prometheus, Alertmanager, and the bot."""

import copy
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from sandbox.addresses import free_port
from sandbox.alert_rules import rules
from sandbox.alertmanager import Alertmanager, Grouping, Webhook
from sandbox.bot import INTAKE_TOKEN, Bot
from sandbox.controlplane.bot_account import allow_changes, install
from sandbox.controlplane.cluster import Cluster, VllmDeployment, default_nodes
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.dial import Dial
from sandbox.fleet.contract import Config, RequestKind
from sandbox.fleet.control import SHORT_PROMPTS, Fleet
from sandbox.local_slack import LocalSlack
from sandbox.prometheus import Job, Prometheus
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_workspace import SlackWorkspace, demo_workspace
from sandbox.started import Started

COLD_START_SECONDS = 2.0  # of each replica; a rollout goes one by one
TTFT_SLO_SECONDS = 1.0
# People read before they approve, and the queue that grew meanwhile is worked off before latency falls.
PATIENT = {"REMEDIATION__SETTLE_SECONDS": "120"}


class Ground(Started):
    """Start it once; stories on it run in namespaces of their own."""

    def __init__(
        self, folder: Path, *, nodes: int = 4, workspace: SlackWorkspace | None = None, config: Config | None = None
    ) -> None:
        self.folder = folder
        self.workspace = workspace or demo_workspace()
        self.control_plane = ControlPlane(folder / "kubernetes")
        self.cluster = Cluster(self.control_plane)
        self.local_slack = LocalSlack(self.workspace, folder / "slack")
        self.slack = SlackRules(self.local_slack, folder / "slack")
        self.fleet = Fleet(folder / "fleet", self.control_plane.admin_kubeconfig, config)
        self._nodes = nodes
        self.token_file = folder / "bot-token"  # there once Kubernetes runs

    def start(self, say: Callable[[str], None] = lambda _: None) -> Self:
        with ThreadPoolExecutor(2) as pool:
            kubernetes = pool.submit(self._start_kubernetes, say)
            slack = pool.submit(self._start_slack, say)
            slack.result()
            kubernetes.result()
        self.fleet.start()
        say("fleet: simulated vLLM replicas follow the pods")
        return self

    def _start_kubernetes(self, say: Callable[[str], None]) -> None:
        self.control_plane.start()
        self.cluster.seed(default_nodes(self._nodes), [])
        shutil.copy(install(self.control_plane), self.token_file)
        say(f"Kubernetes: API server at {self.control_plane.url}, {self._nodes} GPU nodes")

    def _start_slack(self, say: Callable[[str], None]) -> None:
        self.local_slack.start()
        self.slack.start()
        say(f"Slack: {self.slack.page_url}")

    @contextmanager
    def with_own_slack(self, folder: Path) -> Iterator["Ground"]:
        """The same ground with another Slack on it: two bots of one Slack app would get each other's clicks."""
        own = copy.copy(self)
        own.local_slack = LocalSlack(self.workspace, folder)
        own.slack = SlackRules(own.local_slack, folder)
        with own.local_slack, own.slack:
            yield own

    def stop(self) -> None:
        self.fleet.stop()
        self.slack.stop()
        self.local_slack.stop()
        self.control_plane.stop()


@dataclass(frozen=True)
class Town:
    """A service of a story: its deployment, its channel, the load that people offer it.

    `load_ratio` is the share of what its replicas can do together.
    """

    deployment: VllmDeployment
    channel: str = "inc-chat"
    oncall: str = "alice"
    load_ratio: float = 0.56
    mix: Sequence[RequestKind] = SHORT_PROMPTS
    minimum_ready_replicas: int = 1
    maximum_replicas: int = 8
    more: Mapping[str, Any] = field(default_factory=dict)


def chat_70b(namespace: str = "llm", **more: Any) -> Town:
    """Three replicas of four GPUs each, at 56 % of what they can do: twice that is more than three can, not four."""
    flags = {"max-model-len": 16_384, "max-num-seqs": 32, "gpu-memory-utilization": 0.9}
    deployment = VllmDeployment(
        namespace=namespace, name="chat-70b", flags=flags, cold_start_seconds=COLD_START_SECONDS
    )
    return Town(deployment, **more)


@dataclass(frozen=True)
class Dials:
    """Which sources stand behind a dial, so that a test can slow them down or take them away."""

    prometheus: bool = False
    kubernetes: bool = False
    alertmanager: bool = False


class World(Started):
    """One story. `start` returns when the services are under load and scraped, and the bot is ready."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        towns: Sequence[Town] | None = None,
        *,
        dials: Dials | None = None,
        environment: Mapping[str, str] | None = None,
        database_url: str | None = None,
        grouping: Grouping | None = None,
        fleet: Mapping[str, Any] | None = None,
        resend_seconds: float = 10,
        max_alerts: int = 0,
        program: Sequence[str] = ("-m", "bot"),
    ) -> None:
        """`environment`: more settings for the bot, without their prefix. `fleet`: another fleet.yaml than ours.
        `resend_seconds` is Prometheus' pace of repeating an alert, `max_alerts` Alertmanager's limit of a webhook."""
        self.ground = ground
        self.folder = folder
        self.towns = list(towns if towns is not None else [chat_70b()])
        self.namespaces = sorted({t.deployment.namespace for t in self.towns})
        self.dials: dict[str, Dial] = {}
        bot_port = free_port()  # Alertmanager is told of it before the bot is there
        hook = Webhook(f"http://127.0.0.1:{bot_port}/alertmanager", bearer_token=INTAKE_TOKEN, max_alerts=max_alerts)
        self.alertmanager = Alertmanager(folder / "alertmanager", [hook], grouping)
        self.prometheus = Prometheus(
            folder / "prometheus",
            [
                Job("vllm", http_sd_url=ground.fleet.vllm_sd_url),
                Job("dcgm-exporter", http_sd_url=ground.fleet.dcgm_sd_url, more={"honor_labels": True}),
            ],
            rules={"groups": [group for n in self.namespaces for group in rules(n, TTFT_SLO_SECONDS)["groups"]]},
            alertmanager_url=self.alertmanager.url,
            resend_seconds=resend_seconds,
        )
        self.bot_environment = {**PATIENT, **self._sources(dials or Dials()), **(environment or {})}
        self.bot = Bot(
            folder / "bot",
            fleet or fleet_yaml(self.towns, ground.workspace),
            self.bot_environment,
            database_url=database_url,
            port=bot_port,
            program=program,
        )

    def _sources(self, dials: Dials) -> dict[str, str]:
        """Where the bot finds what it reads and writes: the parts themselves, or the dials before them."""
        plane, app = self.ground.control_plane, self.ground.workspace.apps[0]
        urls = {"prometheus": self.prometheus.url, "alertmanager": self.alertmanager.url, "kubernetes": plane.url}
        for name in urls:
            if getattr(dials, name):
                ca = plane.ca if name == "kubernetes" else None
                self.dials[name] = Dial(name, urls[name], self.folder, upstream_ca=ca)
                urls[name] = self.dials[name].url
        return {
            "SLACK__BOT_TOKEN": app.bot_token,
            "SLACK__APP_TOKEN": app.app_token,
            "SLACK__API_URL": self.ground.slack.api_url,
            "PROMETHEUS__URL": urls["prometheus"],
            "ALERTMANAGER__URL": urls["alertmanager"],
            "KUBERNETES__URL": urls["kubernetes"],
            "KUBERNETES__CA_FILE": str(plane.ca),
            "KUBERNETES__TOKEN_FILE": str(self.ground.token_file),
        }

    def start(self, say: Callable[[str], None] = lambda _: None) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for dial in self.dials.values():
            dial.start()
        with ThreadPoolExecutor(3) as pool:
            deployed = pool.submit(self._deploy)
            watched = pool.submit(self._watch)
            watched.result()
            say(f"Prometheus: {self.prometheus.url}   Alertmanager: {self.alertmanager.url}")
            deployed.result()
        for town in self.towns:
            self.offer(town)
        say("services: " + ", ".join(f"{t.deployment.name} ({t.deployment.replicas} replicas)" for t in self.towns))
        self.bot.start()
        say(f"bot: {self.bot.url}")
        return self

    def _watch(self) -> None:
        self.alertmanager.start()
        self.prometheus.start()

    def _deploy(self) -> None:
        for namespace in self.namespaces:
            allow_changes(self.ground.control_plane, namespace)
        self.ground.cluster.seed([], [t.deployment for t in self.towns])

    def offer(self, town: Town, ratio: float | None = None) -> float:
        """Offer `ratio` of what the declared replicas can do, in requests/s; returns it."""
        deployment, fleet = town.deployment, self.ground.fleet
        name = f"{deployment.namespace}-{deployment.name}"

        def load(requests_per_second: float) -> None:
            fleet.set_load(
                name,
                namespace=deployment.namespace,
                selector={"app": deployment.name},
                requests_per_second=requests_per_second,
                mix=town.mix,
            )

        if name not in fleet.state()["loads"]:
            load(0)
        deadline = time.monotonic() + 90
        while (one := fleet.saturation_rps(name)) is None:  # the fleet sees pods a moment after the API server
            if time.monotonic() > deadline:
                raise TimeoutError(f"no replica of {name} serves")
            time.sleep(0.1)
        rps = one * deployment.replicas * (town.load_ratio if ratio is None else ratio)
        load(rps)
        return rps

    def wait_scraped(self, town: Town, seconds: float = 30) -> None:
        """Until Prometheus has two scrapes of every replica and of a GPU exporter."""
        deployment = town.deployment
        selector = f'{{namespace="{deployment.namespace}"}}'
        full = f"count(count_over_time(vllm:num_requests_running{selector}[30s]) >= 2)"
        self.prometheus.wait_for(full, lambda s: bool(s) and s[0].value >= deployment.replicas, seconds)

    def stop(self) -> None:
        """The story's own parts, its namespace and its load; the ground stays."""
        self.bot.stop()
        self.prometheus.stop()
        self.alertmanager.stop()
        for dial in self.dials.values():
            dial.stop()
        for town in self.towns:
            with suppress(requests.RequestException):
                self.ground.fleet.drop_load(f"{town.deployment.namespace}-{town.deployment.name}")
        for namespace in self.namespaces:
            with suppress(requests.RequestException):
                self.ground.cluster.delete_namespace(namespace)


def fleet_yaml(towns: Sequence[Town], workspace: SlackWorkspace) -> dict[str, Any]:
    """What an operator would write about these services: alice and the on-call group may change, leads take risks."""
    groups = {group.handle: group.id for group in workspace.user_groups}
    return {
        "default_channel": workspace.channel("oncall").id,
        "roles": {"operator": {"groups": [groups["ml-oncall"]]}, "lead": {"groups": [groups["sre-leads"]]}},
        "approvals": {"low": "operator", "medium": "operator", "high": "operator"},
        "break_glass": "lead",
        "services": [
            {
                "name": town.deployment.name,
                "workloads": [{"namespace": town.deployment.namespace, "name": town.deployment.name}],
                "slo": {"ttft_p99_seconds": TTFT_SLO_SECONDS, "tpot_p99_seconds": 0.2},
                "channel": workspace.channel(town.channel).id,
                "oncall": workspace.user(town.oncall).id,
                "escalation": workspace.user("carol").id,
                "minimum_ready_replicas": town.minimum_ready_replicas,
                "maximum_replicas": town.maximum_replicas,
                "cold_start_seconds": town.deployment.cold_start_seconds,
                "model": town.deployment.name,
                **town.more,
            }
            for town in towns
        ],
    }
