"""`fleet.yaml`: the services we are on call for, who owns them, and who may approve what.

A service is one model with its SLO, served by one or more workloads (a canary is a second one).
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"  # what Kubernetes allows; names go into API paths and PromQL


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkloadRef(_Strict):
    """cluster/namespace/kind/name; one cluster per bot."""

    namespace: Annotated[str, Field(pattern=NAME)]
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: Annotated[str, Field(pattern=NAME)]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


class Slo(_Strict):
    """What users of the service were promised. P99 over the signal's window."""

    ttft_p99_seconds: Annotated[float, Field(gt=0)] | None = None
    tpot_p99_seconds: Annotated[float, Field(gt=0)] | None = None
    error_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None


class Service(_Strict):
    name: Annotated[str, Field(pattern=NAME)]
    workloads: Annotated[tuple[WorkloadRef, ...], Field(min_length=1)]
    slo: Slo = Slo()
    channel: str  # Slack channel id ("C0123ABCD") or "#name"
    oncall: str | None = None  # Slack user id ("U…") or user group id ("S…") that a critical push mentions
    escalation: str | None = None  # mentioned when nobody acknowledged in time
    minimum_ready_replicas: Annotated[int, Field(ge=0)] = 1
    maximum_replicas: Annotated[int, Field(ge=1)] = 64  # no suggestion goes above it
    cold_start_seconds: Annotated[float, Field(gt=0)] = 600  # until a new replica serves, when not measured yet
    model: str | None = None  # served model name, where alerts carry only `model_name`
    approvals: Mapping[Literal["low", "medium", "high"], str] | None = None  # overrides the fleet's


class Role(_Strict):
    """Who holds a role: Slack user ids, and user groups whose members are asked from Slack."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Fleet(_Strict):
    services: tuple[Service, ...]
    default_channel: str  # for alerts that match no service
    default_oncall: str | None = None  # who is called for those; without it a critical one rings no phone
    roles: Mapping[str, Role]
    approvals: Mapping[Literal["low", "medium", "high"], str]  # risk -> role that may approve
    two_people: tuple[Literal["low", "medium", "high"], ...] = ()  # risks that need a second person
    break_glass: str | None = None  # role that may override policy, with a reason

    @field_validator("services")
    @classmethod
    def _names_are_unique(cls, services: tuple[Service, ...]) -> tuple[Service, ...]:
        names = [s.name for s in services]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"service declared twice: {', '.join(twice)}")
        refs = [w for s in services for w in s.workloads]
        if shared := sorted({str(w) for w in refs if refs.count(w) > 1}):
            raise ValueError(f"a workload belongs to one service only: {', '.join(shared)}")
        return services

    @model_validator(mode="after")
    def _roles_exist(self) -> "Fleet":
        named = [*self.approvals.values(), *(r for s in self.services for r in (s.approvals or {}).values())]
        named += [self.break_glass] if self.break_glass else []
        if missing := sorted(set(named) - set(self.roles)):
            raise ValueError(f"approvals name a role that is not in roles: {', '.join(missing)}")
        if lacking := {"low", "medium", "high"} - set(self.approvals):
            raise ValueError(f"approvals must name a role for each risk; lacking: {', '.join(sorted(lacking))}")
        return self

    def called(self) -> tuple[str, ...]:
        """Whoever a push may mention, each once."""
        named = [self.default_oncall, *(who for s in self.services for who in (s.oncall, s.escalation))]
        return tuple(dict.fromkeys(who for who in named if who))

    def service(self, name: str) -> Service | None:
        return next((s for s in self.services if s.name == name), None)

    def service_of(self, ref: WorkloadRef) -> Service | None:
        return next((s for s in self.services if ref in s.workloads), None)
