"""A --config file, as vLLM reads it: YAML whose keys are options, in front of those of the command line."""

import json
from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bot.ports import ConfigMount, Container


def mounted_from(container: Container, path: str) -> tuple[str, str] | None:
    """(ConfigMap, key) that the file comes from; None: from elsewhere."""
    for mount in sorted(container.config_mounts, key=lambda mount: len(mount.path), reverse=True):
        if (key := _key(mount, path)) is not None:
            return mount.config_map, key
    return None


def _key(mount: ConfigMount, path: str) -> str | None:
    place = mount.path.rstrip("/")
    if path != place and not path.startswith(f"{place}/"):
        return None
    file = path[len(place) + 1 :]
    return file or None if mount.keys is None else mount.keys.get(file)


def options_of(text: str) -> tuple[str, ...]:
    """The words that vLLM makes of it. Raises ValueError for what is no such file."""
    try:
        found = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("it is no list of options")
    return tuple(word for key, value in found.items() for word in _words(str(key), value))


def _words(key: str, value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, bool):
        yield f"--{key}" if value else f"--no-{key}"
    elif isinstance(value, list):
        yield from (f"--{key}", *map(str, value))
    elif isinstance(value, dict):
        yield f"--{key}={json.dumps(value)}"
    else:
        yield f"--{key}={value}"
