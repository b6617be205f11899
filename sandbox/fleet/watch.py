"""Keeps the pods and nodes of an API server at hand: list, then watch, and again from the start when that breaks."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

Object = Mapping[str, Any]
log = logging.getLogger(__name__)

# The server ends a watch after this; a connection that died in silence is noticed soon after.
WATCH_SECONDS = 60
RETRY_SECONDS = 0.5


class Inventory:
    """The objects of one kind by uid, as the API server said last. Thread-safe; `version` counts changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self.version = 0
        self.synced = False

    def replace(self, objects: list[Object]) -> None:
        with self._lock:
            self._objects = {o["metadata"]["uid"]: o for o in objects}
            self.version += 1
            self.synced = True

    def apply(self, event: str, obj: Object) -> None:
        """`event` is a watch event's type. A bookmark (every minute or so) only says how far the watch is."""
        if event not in ("ADDED", "MODIFIED", "DELETED"):
            return
        with self._lock:
            uid = obj["metadata"]["uid"]
            if event == "DELETED":
                self._objects.pop(uid, None)
            else:
                self._objects[uid] = obj
            self.version += 1

    def objects(self) -> list[Object]:
        with self._lock:
            return list(self._objects.values())


class Watch:
    """A daemon thread that keeps one inventory. While the API server is away, the last known stays, as kubelets do."""

    def __init__(self, name: str, inventory: Inventory, ask: Callable[..., Any]) -> None:
        self._name = name
        self._inventory = inventory
        self._ask = ask
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It starts no watch any more; one that stands ends with its connection."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._list_and_watch()
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                log.warning("Watching %s broke, starting again: %s", self._name, error)
                self._stopped.wait(RETRY_SECONDS)

    def _list_and_watch(self) -> None:
        listed = json.loads(self._ask(_preload_content=False, _request_timeout=10).data)
        self._inventory.replace(listed["items"])
        version = listed["metadata"]["resourceVersion"]
        while True:
            for event in self._events(version):
                obj = event["object"]
                if event["type"] == "ERROR":  # 410 Gone: too old a version; list anew
                    log.info("Watching %s: %s", self._name, obj.get("message"))
                    return
                version = obj["metadata"]["resourceVersion"]
                self._inventory.apply(event["type"], obj)

    def _events(self, version: str) -> Iterator[dict[str, Any]]:
        response = self._ask(
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _preload_content=False,
            _request_timeout=(10, WATCH_SECONDS + 10),
        )
        try:
            rest = b""
            for chunk in response.stream(None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            response.release_conn()


def watch_cluster(kubeconfig: Path, pods: Inventory, nodes: Inventory) -> None:
    """Start to keep both. Each watch has its own connections, since it holds one for a long time."""
    for name, inventory in (("pods", pods), ("nodes", nodes)):
        core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]
        ask = core.list_pod_for_all_namespaces if name == "pods" else core.list_node
        Watch(name, inventory, ask).start()
