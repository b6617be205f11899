"""What the process of the rules is told when it starts."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from sandbox.slack_rules.rules import Rule
from sandbox.slack_workspace import SlackWorkspace


@dataclass(frozen=True)
class RulesSettings:
    workspace: SlackWorkspace
    local_url: str
    api_port: int
    page_port: int
    control_port: int
    log: str
    off: tuple[Rule, ...] = ()
    latency_seconds: float = 0
    post_burst: int = 3
    ack_seconds: float = 3
    trigger_seconds: float = 3
    response_seconds: float = 30 * 60
    event_retry_seconds: tuple[float, ...] = (0, 60, 300)


settings_json: TypeAdapter[RulesSettings] = TypeAdapter(RulesSettings)
