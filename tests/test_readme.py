"""The README names every setting and nothing else; the YAML it shows is accepted."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from bot.fleet import Fleet
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from bot.settings import AgentSettings, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= names(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def told(heading: str) -> set[str]:
    table = README.split(heading)[1].split("\n##")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([\w.]+)`", cell)}


def test_every_setting_is_in_the_table_and_no_other():
    assert told("### Every setting") == names(Settings) - {"config"}
    assert told("### The GPU node agent") == names(AgentSettings)


def test_the_fleet_file_it_shows_is_accepted():
    shown = README.split("### fleet.yaml")[1].split("```yaml\n")[1].split("```")[0]
    fleet = Fleet.model_validate(YAML(typ="safe").load(shown))
    assert fleet.service("chat-70b") is not None
    assert set(Fleet.model_fields) <= set(YAML(typ="safe").load(shown)), "a key of fleet.yaml is not shown"


def test_every_file_it_points_at_is_there():
    for name in re.findall(r"`((?:deploy|runbooks|docs|bot|tests)/[\w./-]+\.\w+)`|\]\((docs/[\w./]+)\)", README):
        path = ROOT / (name[0] or name[1])
        assert path.exists(), path


# ---------------------------------------------------------------------------------------- Alertmanager's routes

# What kube-state-metrics, cAdvisor and Prometheus say of pods, workloads and targets has their namespace; of nodes and
# models it has none, or the exporter's.
NAMESPACED = re.compile(r"(Kube(rnetes)?)?(Pod|Container|Deployment|StatefulSet|Hpa)[A-Z]\w+|TargetDown")
ROUTES = YAML(typ="safe").load(README.split("5. **Alertmanager.**")[1].split("```yaml\n")[1].split("```")[0])


def matched_names() -> Iterator[str]:
    for runbook in library([our_folder()]).runbooks.values():
        for entry in runbook.match:
            told = entry.get("alertname", ())
            yield from (told,) if isinstance(told, str) else told


def goes_through(labels: Mapping[str, str], route: Mapping[str, list[str]]) -> bool:
    """As Alertmanager matches: expressions are anchored at both ends, and a label that is missing is empty."""
    for matcher in route["matchers"]:
        name, expression = re.fullmatch(r'(\w+)=~"(.*)"', matcher).groups()
        if not re.fullmatch(expression, labels.get(name, "")):
            return False
    return True


@pytest.mark.parametrize("name", sorted(set(matched_names())))
def test_every_alert_that_a_runbook_matches_goes_through_a_route(name):
    service = YAML(typ="safe").load(README.split("### fleet.yaml")[1].split("```yaml\n")[1].split("```")[0])
    place = service["services"][0]["workloads"][0]["namespace"]
    labels = {"alertname": name, **({"namespace": place} if NAMESPACED.fullmatch(name) else {})}
    assert any(goes_through(labels, route) for route in ROUTES["route"]["routes"])


def test_alerts_about_other_things_go_through_none():
    for name in ("Watchdog", "NodeFilesystemSpaceFillingUp", "KubeAPIDown", "KubeJobFailed", "KubePodCrashLooping"):
        labels = {"alertname": name, "namespace": "shop"}
        assert not any(goes_through(labels, route) for route in ROUTES["route"]["routes"]), name


def test_a_routes_alerts_go_on_to_whoever_had_them_before():
    assert all(route["continue"] is True for route in ROUTES["route"]["routes"])
