"""The files in `deploy/` as a user applies them: to a real API server, and read by the bot's own settings."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from bot.fleet import Fleet
from bot.settings import Settings
from sandbox.controlplane.build import built
from sandbox.controlplane.cluster import Cluster
from sandbox.controlplane.control_plane import ControlPlane

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_base_is_admitted_as_it_is_and_its_pod_runs_unprivileged(
    control_plane: ControlPlane, cluster: Cluster, bot_token_file: Path
) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=_VOLUME)
    control_plane.kubectl("-n", "vllm-oncall", "create", "secret", "generic", "vllm-oncall")
    try:
        control_plane.kubectl("apply", "-k", str(DEPLOY / "base"))
        # Pod security "restricted" is enforced where pods are made, so only a pod that exists proves it.
        cluster.wait_until_rolled_out("vllm-oncall", "vllm-oncall")
    finally:
        control_plane.kubectl("-n", "vllm-oncall", "delete", "deployment,pvc,secret,service", "--all", "--wait=false")
        control_plane.kubectl("delete", "pv", "vllm-oncall-test", "--wait=false")
        _until_no_pods(cluster, "vllm-oncall")


def test_the_read_only_variant_holds_no_verb_that_changes_anything() -> None:
    rendered = _render("readonly")
    verbs = {v for o in rendered if o["kind"] in ("ClusterRole", "Role") for r in o["rules"] for v in r["verbs"]}
    assert verbs == {"get", "list"}
    bound = {o["roleRef"]["name"] for o in rendered if o["kind"] in ("ClusterRoleBinding", "RoleBinding")}
    assert bound == {"vllm-oncall-read"}
    environment = {e["name"]: e.get("value") for e in _bot(rendered)["env"]}
    assert environment["VLLM_ONCALL_REMEDIATION__ENABLED"] == "false"


@pytest.mark.parametrize("variant", ["base", "readonly"])
def test_every_environment_variable_is_a_setting(variant: str) -> None:
    named = {entry["name"] for entry in _bot(_render(variant))["env"]}
    named |= set(re.findall(r"^(VLLM_\w+)=", (DEPLOY / "base/secret.example.env").read_text(), re.MULTILINE))
    assert [name for name in sorted(named) if name.startswith("VLLM_ONCALL_") and not _is_setting(name)] == []


def test_the_settings_file_and_the_secret_are_enough_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in _bot(_render("base"))["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "gpu-01"))  # what the kubelet fills in
    for name in re.findall(r"^(VLLM_\w+)=", (DEPLOY / "base/secret.example.env").read_text(), re.MULTILINE):
        monkeypatch.setenv(name, "filled-in")
    monkeypatch.setenv("VLLM_ONCALL_CONFIG", str(DEPLOY / "base/settings.yaml"))
    settings = Settings()
    assert settings.prometheus.url.startswith("http://")
    assert settings.remediation.enabled
    assert settings.node == "gpu-01"


def test_the_example_fleet_is_valid_and_its_namespaces_have_a_binding() -> None:
    fleet = Fleet.model_validate(YAML(typ="safe").load(DEPLOY / "base/fleet.yaml"))
    bound = {o["metadata"]["namespace"] for o in _render("base") if o["kind"] == "RoleBinding"}
    assert {workload.namespace for service in fleet.services for workload in service.workloads} == bound


def test_the_probes_and_the_service_ask_the_port_that_the_bot_listens_on() -> None:
    container = _bot(_render("base"))
    assert container["ports"] == [{"name": "http", "containerPort": Settings.model_fields["intake"].default.port}]
    (service,) = [o for o in _render("base") if o["kind"] == "Service"]
    assert service["spec"]["ports"][0]["targetPort"] == "http"


def test_the_slack_manifest_says_of_each_scope_why() -> None:
    text = (DEPLOY / "slack-manifest.yaml").read_text()
    asked = YAML(typ="safe").load(text)["oauth_config"]["scopes"]["bot"]
    assert [scope for scope in asked if not re.search(rf"^\s*- {scope} # \S", text, re.MULTILINE)] == []


def test_the_slack_manifest_opens_a_socket_and_takes_the_command_and_buttons() -> None:
    manifest = YAML(typ="safe").load(DEPLOY / "slack-manifest.yaml")
    assert manifest["settings"]["socket_mode_enabled"] and manifest["settings"]["interactivity"]["is_enabled"]
    assert [command["command"] for command in manifest["features"]["slash_commands"]] == ["/vllm"]


def _render(variant: str) -> list[dict[str, Any]]:
    text = subprocess.run(
        [built("kubectl"), "kustomize", str(DEPLOY / variant)], capture_output=True, text=True, check=True
    ).stdout
    return list(YAML(typ="safe").load_all(text))


def _bot(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = [o for o in rendered if o["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def _is_setting(variable: str) -> bool:
    model: Any = Settings
    for part in variable.removeprefix("VLLM_ONCALL_").lower().split("__"):
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return False
        model = model.model_fields[part].annotation
    return True


def _until_no_pods(cluster: Cluster, namespace: str) -> None:
    deadline = time.monotonic() + 20
    while cluster.control_plane.api.items(f"/api/v1/namespaces/{namespace}/pods"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


_VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {name: vllm-oncall-test}
spec:
  capacity: {storage: 2Gi}
  accessModes: [ReadWriteOnce]
  claimRef: {namespace: vllm-oncall, name: vllm-oncall}
  hostPath: {path: /nowhere}
"""
