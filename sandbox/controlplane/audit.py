"""Who asked the API server for what: the server's own audit log, one line a request."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# The control plane talks to itself many times a second; what people, the bot and the tests do is what one looks for.
_ITSELF = ["kwok", "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": _ITSELF},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    at: datetime
    user: str  # "system:serviceaccount:NAMESPACE:NAME" for a ServiceAccount
    verb: str  # as RBAC knows it: get, list, watch, create, update, patch, delete
    resource: str  # "deployments", "pods"; "" for a non-resource URL
    subresource: str  # "scale", "log", "eviction"; or ""
    namespace: str
    name: str
    code: int  # HTTP status; 0 if the request was cut off
    uri: str
    user_agent: str

    @property
    def dry_run(self) -> bool:
        return "dryRun=All" in self.uri

    @property
    def changed_something(self) -> bool:
        """A write that the server carried out."""
        return self.verb in ("create", "update", "patch", "delete") and 200 <= self.code < 300 and not self.dry_run


def entries(log: Path) -> Iterator[AuditEntry]:
    """Finished requests, oldest first. A watch comes when it ends."""
    if not log.exists():
        return
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # being written
            entry = json.loads(line)
            if entry["stage"] in ("ResponseComplete", "Panic"):
                yield _parse(entry)


def _parse(entry: dict[str, Any]) -> AuditEntry:
    what = entry.get("objectRef", {})
    return AuditEntry(
        at=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource=what.get("resource", ""),
        subresource=what.get("subresource", ""),
        namespace=what.get("namespace", ""),
        name=what.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        uri=entry["requestURI"],
        user_agent=entry.get("userAgent", ""),
    )
