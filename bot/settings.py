"""Every setting, read once: `VLLM_ONCALL_…` in the environment (nested with `__`), or a YAML file named by
`VLLM_ONCALL_CONFIG`. The environment wins. `app.py` hands plain values down; nothing else reads the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Seconds = Annotated[float, Field(gt=0)]


class SlackSettings(_Group):
    bot_token: SecretStr
    app_token: SecretStr | None = None  # Socket Mode; without it, events come over HTTP and need signing_secret
    signing_secret: SecretStr | None = None
    # A GovSlack or a proxied installation has another one. Given to both of Bolt's clients.
    api_url: str = "https://slack.com/api/"
    timeout_seconds: Seconds = 10


class PrometheusSettings(_Group):
    url: str
    public_url: str | None = None  # what links in Slack point at
    token: SecretStr | None = None
    tenant: str | None = None  # X-Scope-OrgID
    timeout_seconds: Seconds = 10
    window_seconds: Seconds = 300  # range of rate()


class AlertmanagerSettings(_Group):
    url: str | None = None  # without it truncated groups and lost resolves cannot be reconciled, and the bot says so
    token: SecretStr | None = None
    timeout_seconds: Seconds = 10


class KubernetesSettings(_Group):
    url: str | None = None  # None: in-cluster
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    ca_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    timeout_seconds: Seconds = 10


class VllmSettings(_Group):
    api_key: SecretStr | None = None  # where replicas run with --api-key
    timeout_seconds: Seconds = 3


class IntakeSettings(_Group):
    token: SecretStr | None = None  # unset: every webhook is refused
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    body_limit_bytes: Annotated[int, Field(gt=0)] = 4 * 1024 * 1024
    waiting_limit: Annotated[int, Field(gt=0)] = 2000


class TimingSettings(_Group):
    """Domain times; what each means stands at `incidents.incident.Timing`."""

    hold_down_seconds: Seconds = 300
    episode_seconds: Seconds = 6 * 3600
    join_window_seconds: Seconds = 900
    verdict_grace_seconds: Seconds = 2
    verdict_limit_seconds: Seconds = 10
    burn_interval_seconds: Seconds = 240
    ack_reminder_seconds: Seconds = 300
    escalation_seconds: Seconds = 900
    silent_seconds: Seconds = 600
    storm_services: Annotated[int, Field(gt=1)] = 8


class RemediationSettings(_Group):
    enabled: bool = True
    dry_run: bool = False  # every action says what it would do, and does nothing
    proposal_expiry_seconds: Seconds = 1800
    changes_per_hour: Annotated[int, Field(gt=0)] = 6
    settle_seconds: Seconds | None = None  # how long "helped" is watched; None: cold start + two windows
    poll_seconds: Seconds = 5
    cool_down_seconds: Seconds = 300  # between changes while a storm is on


class AgentAccess(_Group):
    """The GPU node agents, as the bot reaches them."""

    token: SecretStr | None = None  # the agents' own; unset: they are not asked
    namespace: str = "vllm-oncall-agent"  # only pods there are given the token
    port: Annotated[int, Field(gt=0, le=65535)] = 9477
    timeout_seconds: Seconds = 4
    # Node -> host:port, for agents that run as something other than our DaemonSet.
    hosts: Mapping[str, str] = Field(default_factory=dict)


class _Named(BaseSettings):
    """Read from the environment, and from the file that it names."""

    model_config = SettingsConfigDict(
        env_prefix="VLLM_ONCALL_",
        env_nested_delimiter="__",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    config: Path | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = env_settings().get("config")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, YamlConfigSettingsSource(settings_cls, yaml_file=named)) if named else sources


class Settings(_Named):
    model_config = SettingsConfigDict(extra="forbid")

    fleet: Path = Path("fleet.yaml")
    runbooks: tuple[Path, ...] = ()  # further folders beside ours; a broken file never replaces a working one
    node: str | None = None  # the one this runs on, from the downward API: it is never cordoned or drained
    database_url: str = "sqlite:////var/lib/vllm-oncall/oncall.sqlite"  # or postgresql://user@host/name
    slack: SlackSettings
    prometheus: PrometheusSettings
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    vllm: VllmSettings = VllmSettings()
    agent: AgentAccess = AgentAccess()
    intake: IntakeSettings = IntakeSettings()
    timing: TimingSettings = TimingSettings()
    remediation: RemediationSettings = RemediationSettings()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    step_threads: Annotated[int, Field(gt=0)] = 64  # probes at once, over all rounds; they wait, most of the time


class CheckSettings(_Named):
    """What a check of runbooks can use. All of it may lack: runbooks are written where no bot runs."""

    model_config = SettingsConfigDict(extra="ignore")

    prometheus: PrometheusSettings | None = None


class AgentSettings(BaseSettings):
    """Of the process on a GPU node (`VLLM_ONCALL_AGENT__…`): another one than the bot, so another root."""

    model_config = SettingsConfigDict(env_prefix="VLLM_ONCALL_AGENT__", frozen=True)

    token: SecretStr | None = None  # unset: every question is refused
    node: str  # from the downward API (spec.nodeName)
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 9477
    history: Path | None = Path("/var/lib/vllm-oncall-agent/events.jsonl")
    history_limit: Annotated[int, Field(ge=10)] = 1000
    pod_resources: Path | None = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    kmsg: Path = Path("/dev/kmsg")
    patience_seconds: Seconds = 2  # how long an answer waits for a GPU that does not
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
