"""The composition root of the bot: builds everything from the settings, starts it, stops it.

Every replica takes in (webhook, Slack) and writes to the store; the one that holds the lock does what is due. The way
of an alert: intake -> triage -> rounds -> proposals -> review and approval -> execution; the announcer shows each step.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import SecretStr, ValidationError

from bot.announce.announcer import Announcer, Backlog
from bot.announce.graph import Graphs
from bot.commands.context import Context
from bot.commands.dispatch import Deeds, Dispatch
from bot.fleet import Fleet
from bot.gpu_readings import GpuEvent
from bot.inbound.health import Health
from bot.inbound.intake import Intake
from bot.inbound.server import HttpServer, new_api
from bot.inbound.slack import SlackInbound
from bot.inbound.webhook import AlertmanagerWebhook
from bot.incidents.alert import TakenIn
from bot.incidents.diagnose import Diagnoser
from bot.incidents.gpu_alert import alert_of
from bot.incidents.incident import Timing
from bot.incidents.reconcile import Reconcile
from bot.incidents.rounds import Rounds
from bot.incidents.triage import Triage
from bot.incidents.watch import Watch
from bot.leader import Bell, Leader, Work
from bot.outbound.alertmanager import Alertmanager
from bot.outbound.engine import DbosEngine
from bot.outbound.gpu_agents import GpuAgents
from bot.outbound.gpu_watch import GpuWatch
from bot.outbound.kubernetes_http import KubernetesHttp, in_cluster_url
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.outbound.lock import lock_for
from bot.outbound.plots import load as load_plots
from bot.outbound.plots import plot
from bot.outbound.prometheus import Prometheus
from bot.outbound.slack.chat import SlackChat, web_client
from bot.outbound.slack.people import People
from bot.outbound.store import SqlStore
from bot.outbound.vllm_http import VllmHttp
from bot.ports import Controls, Sources
from bot.remediation.approve import Approve
from bot.remediation.due import Remediation
from bot.remediation.execute import KIND, Execution
from bot.remediation.guard import Limits
from bot.remediation.propose import Propose
from bot.remediation.review import Review
from bot.remediation.world import Rules, World
from bot.report import Report
from bot.runbook.checking import Library, library
from bot.runbook.loading import Mistake, all_told, our_folder, read_yaml
from bot.runbook.schema import Runbook
from bot.settings import AgentAccess, PrometheusSettings, Settings

log = logging.getLogger(__name__)

RECONCILE_SECONDS = 10.0
TRIAGE = "triage"  # the lane that a webhook wakes
# A thread that comes back from the disk or a socket waits so long for one that computes (Python's own: 5 ms); on its
# way to Slack an alert comes back a dozen times.
SWITCH_SECONDS = 0.0005


class ConfigurationError(Exception):
    """What was configured cannot be worked with. The text says what, where, and what would be right."""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Outside:
    """The adapters, one for each outside system, and what was configured. Terminal commands need no more than this."""

    settings: Settings
    fleet: Fleet
    library: Library
    store: SqlStore
    kubernetes: KubernetesHttp
    prometheus: Prometheus
    alertmanager: Alertmanager
    gpus: GpuAgents | None  # None: no token for them is set

    def sources(self, at: datetime) -> Sources:
        return Sources(
            cluster=KubernetesReader(self.kubernetes),
            metrics=self.prometheus,
            alerts=self.alertmanager,
            engines=VllmHttp(
                timeout_seconds=self.settings.vllm.timeout_seconds, api_key=_shown(self.settings.vllm.api_key)
            ),
            fleet=self.fleet,
            now=at,
            window_seconds=self.settings.prometheus.window_seconds,
            gpus=self.gpus,
        )

    @property
    def runbooks(self) -> Mapping[str, Runbook]:
        return self.library.runbooks


def connect(settings: Settings) -> Outside:
    """Opens the store; asks nobody else. Raises ConfigurationError, and SourceError if the database does not answer."""
    kubernetes, prometheus, alertmanager = settings.kubernetes, settings.prometheus, settings.alertmanager
    threads = settings.step_threads
    api_server = KubernetesHttp(
        kubernetes.url or in_cluster_url(os.environ),
        token_file=kubernetes.token_file,
        ca_file=kubernetes.ca_file,
        timeout_seconds=kubernetes.timeout_seconds,
        threads=threads,
    )
    return Outside(
        settings=settings,
        fleet=read_fleet(settings.fleet),
        library=library([our_folder(), *settings.runbooks]),
        store=SqlStore.open(settings.database_url),
        kubernetes=api_server,
        prometheus=prometheus_of(prometheus, threads=threads),
        alertmanager=Alertmanager(
            alertmanager.url,
            timeout_seconds=alertmanager.timeout_seconds,
            token=_shown(alertmanager.token),
            threads=threads,
        ),
        gpus=_gpu_agents(settings.agent, KubernetesReader(api_server)),
    )


def _gpu_agents(access: AgentAccess, cluster: KubernetesReader) -> GpuAgents | None:
    token = _shown(access.token)
    if not token:  # an empty string in a Secret means "not set", too
        return None
    return GpuAgents(
        cluster,
        token=token,
        namespace=access.namespace,
        port=access.port,
        timeout_seconds=access.timeout_seconds,
        hosts=access.hosts,
    )


def prometheus_of(settings: PrometheusSettings, *, threads: int = 1) -> Prometheus:
    return Prometheus(
        settings.url,
        timeout_seconds=settings.timeout_seconds,
        public_url=settings.public_url,
        token=_shown(settings.token),
        tenant=settings.tenant,
        threads=threads,
    )


def read_fleet(path: Path) -> Fleet:
    """Raises ConfigurationError with every mistake in the file, each with its line."""
    hint = "VLLM_ONCALL_FLEET names it; the README has an example."
    document = read_yaml(path)
    if isinstance(document, Mistake):
        raise ConfigurationError(f"{document}. {hint}")
    try:
        return Fleet.model_validate(document)
    except ValidationError as error:
        wrong = map(str, all_told(path, document, error, Fleet))
        raise ConfigurationError("\n".join([*wrong, hint])) from error


class App:
    """The bot as a process. `start` returns when it takes alerts; `stop` leaves nothing half done."""

    def __init__(self, outside: Outside) -> None:
        settings, store, fleet = outside.settings, outside.store, outside.fleet
        self._outside = outside
        self._bell = Bell()
        self._lock = lock_for(settings.database_url)
        self._pool = ThreadPoolExecutor(settings.step_threads, thread_name_prefix="step")
        self._rounds_pool = ThreadPoolExecutor(max(4, settings.step_threads // 8), thread_name_prefix="round")
        self._engine = DbosEngine(store, self._lock.check)
        wake = self._bell.ring

        slack = settings.slack
        client = web_client(
            slack.bot_token.get_secret_value(), api_url=slack.api_url, timeout_seconds=slack.timeout_seconds
        )
        people = People(client)
        # The first message of an alert names them; their names are asked for before there is one.
        self._meet = partial(people.meet, fleet.called())
        chat = SlackChat(client, people)
        self._diagnoser = Diagnoser(outside.runbooks, outside.sources, self._pool, clock=now)
        world = self._world(chat.group_members)
        self._propose, approve = Propose(world), Approve(world)
        self._engine.register(KIND, Execution(world).run)
        timing = Timing(**settings.timing.model_dump())
        cluster = KubernetesReader(outside.kubernetes)

        graphs = Graphs(store, fleet, outside.runbooks, self._diagnoser.history, plot)
        self._announcer = Announcer(store, chat, fleet, outside.runbooks, timing, graphs, clock=now, wake=wake)
        deeds = Deeds(
            decline=lambda proposal, user, at: approve.declined(proposal, user, at).text,
            approve=lambda proposal, user, inputs, at: approve.submitted(proposal, user, inputs, at).text,
        )
        self._dispatch = Dispatch(store, self._context, deeds, clock=now, wake=wake)
        told = outside.alertmanager if settings.alertmanager.url else None
        rounds = self._make_rounds(cluster, wake)
        works = [
            Work("triage", Triage(store, cluster, fleet, outside.runbooks, timing, self._pool).step, TRIAGE),
            Work("rounds", rounds.step),
            Work("requests", self._dispatch.step),
            Work("remediation", Remediation(world).step),
            Work("watch", Watch(store, fleet, timing).step),
            Work("announce", self._announcer.step, "announce"),
            Work(
                "reconcile",
                Reconcile(store, told, outside.prometheus, timing, interval_seconds=RECONCILE_SECONDS).step,
                "reconcile",
            ),
        ]
        # An Xid is on its way to Slack within moments of the driver's word, before any scrape.
        self._gpu_watch = GpuWatch(outside.gpus, self._gpu_event) if outside.gpus is not None else None
        self._leader = Leader(self._lock, works, self._bell, on_leading=self._on_leading, on_stopped=self._engine.stop)

        self._slack = SlackInbound(
            store,
            chat,
            Review(world, self._propose).contract,
            bot_token=slack.bot_token.get_secret_value(),
            app_token=_shown(slack.app_token),
            signing_secret=_shown(slack.signing_secret),
            api_url=slack.api_url,
            timeout_seconds=slack.timeout_seconds,
            clock=now,
            wake=wake,
        )
        intake = settings.intake
        self._intake = Intake(store.take_in_webhooks, partial(wake, TRIAGE), waiting_limit=intake.waiting_limit)
        webhook = AlertmanagerWebhook(self._intake, token=intake.token, body_limit_bytes=intake.body_limit_bytes)
        api = new_api()
        webhook.add_to(api)
        api.include_router(self._slack.routes())
        Health(
            store=store,
            leader=self._leader,
            slack_connected=self._slack.is_connected,
            intake=self._intake,
            webhook=webhook,
            backlog=lambda: self._announcer.backlog,
            engine=self._engine,
            rounds=rounds,
            agents=self._gpu_watch.heard if self._gpu_watch is not None else None,
        ).add_to(api)
        self._server = HttpServer(api, host=intake.host, port=intake.port)

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        for mistake in self._outside.library.mistakes:
            log.error("a runbook is not used: %s", mistake)
        if self._outside.settings.intake.token is None:
            log.error("VLLM_ONCALL_INTAKE__TOKEN is not set: every webhook is refused until it is")
        self._intake.start()
        self._leader.start()
        self._slack.connect()
        self._server.start()
        threading.Thread(target=load_plots, daemon=True, name="load-plots").start()
        threading.Thread(target=self._meet, daemon=True, name="meet").start()
        log.info("ready", extra={"port": self.port, "runbooks": sorted(self._outside.runbooks)})

    def stop(self) -> None:
        """First nothing comes in any more, then what is under way ends; executions go on with the next leader."""
        self._server.stop()
        self._slack.close()
        self._intake.stop()
        if self._gpu_watch is not None:
            self._gpu_watch.stop()
        self._leader.stop()
        self._dispatch.close()
        self._announcer.close()
        self._outside.store.close()

    def _on_leading(self) -> None:
        self._engine.launch()
        if self._gpu_watch is not None:
            self._gpu_watch.start()

    def _gpu_event(self, node: str, event: GpuEvent) -> None:
        # An agent tells what it remembers to every bot that starts.
        self._outside.store.take_in_webhooks([TakenIn((alert_of(node, event, now()),), moments=True)])
        self._bell.ring()

    def _world(self, members: Callable[[str], frozenset[str]]) -> World:
        outside, remediation = self._outside, self._outside.settings.remediation
        controls = Controls(
            cluster=KubernetesWriter(outside.kubernetes, still_leader=self._still_leads), alerts=outside.alertmanager
        )
        return World(
            store=outside.store,
            fleet=outside.fleet,
            sources=outside.sources,
            controls=controls,
            members=members,
            engine=self._engine,
            signal=self._diagnoser.signal_now,
            clock=now,
            rules=Rules(
                enabled=remediation.enabled,
                dry_run=remediation.dry_run,
                expiry_seconds=remediation.proposal_expiry_seconds,
                settle_seconds=remediation.settle_seconds,
                poll_seconds=remediation.poll_seconds,
            ),
            limits=Limits(
                changes_per_hour=remediation.changes_per_hour,
                storm_services=outside.settings.timing.storm_services,
                cool_down_seconds=remediation.cool_down_seconds,
            ),
            bot_node=outside.settings.node,
        )

    def _still_leads(self) -> bool:
        """Does not return if the lock is lost: the process ends, and with it the thread that was about to write."""
        self._lock.check()
        return self._leader.leads

    def _make_rounds(self, cluster: KubernetesReader, wake: Callable[[], None]) -> Rounds:
        outside = self._outside
        return Rounds(
            outside.store,
            self._diagnoser,
            cluster,
            outside.fleet,
            self._rounds_pool,
            clock=now,
            prepare=self._propose.prepare,
            wake=wake,
        )

    def _context(self, user: str, channel: str) -> Context:
        context = context_of(self._outside, self._diagnoser, user, channel)
        return replace(context, propose=self._propose.by_hand, backlog=self._backlog)

    def _backlog(self) -> Backlog | None:
        return self._announcer.backlog


def context_of(outside: Outside, diagnoser: Diagnoser, user: str, channel: str = "") -> Context:
    """What a command may use in a terminal: all that reads. In Slack it may propose, too."""

    def at_once(note: Report, work: Callable[[], Report]) -> Report:
        return work()

    return Context(
        store=outside.store,
        sources=outside.sources,
        fleet=outside.fleet,
        runbooks=outside.runbooks,
        diagnose=diagnoser,
        propose=None,
        later=at_once,
        user=user,
        channel=channel,
        now=now(),
        broken=outside.library.mistakes,
    )


def terminal(outside: Outside, user: str) -> Context:
    pool = ThreadPoolExecutor(outside.settings.step_threads, thread_name_prefix="step")
    diagnoser = Diagnoser(outside.runbooks, outside.sources, pool, clock=now)
    return context_of(outside, diagnoser, f"terminal:{user}")


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
