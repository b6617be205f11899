"""The README names every setting and nothing else; the YAML it shows is accepted."""

import re
from pathlib import Path

from pydantic import BaseModel
from ruamel.yaml import YAML

from bot.fleet import Fleet
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
