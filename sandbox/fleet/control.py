"""The fleet as its users see it: the process as a part of the sandbox, and its controls as functions."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import requests

from sandbox.addresses import free_port
from sandbox.fleet.contract import Config, Effect, Fault, GpuFault, Load, LoadChange, Match, RequestKind
from sandbox.part import Part, answers
from sandbox.started import Started

SHORT_PROMPTS = (RequestKind(),)
# One in twenty is a whole document: its prefill takes more than a second, and all others wait for it.
LONG_PROMPTS = (RequestKind(weight=19), RequestKind(weight=1, prompt_tokens=28_000, spread=0.1))
# Long conversations whose beginning is cached: little to compute, much to keep.
LONG_CONTEXTS = (RequestKind(prompt_tokens=4_000, output_tokens=600, cached_ratio=0.95, spread=0.3),)
TIMEOUT_SECONDS = 10


class FleetControl:
    """Raises requests.HTTPError, with what was wrong in its text, when the fleet refuses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()

    @property
    def vllm_sd_url(self) -> str:
        """For Prometheus' http_sd_configs: one target a replica."""
        return f"{self.url}/sd/vllm"

    @property
    def dcgm_sd_url(self) -> str:
        """One target a GPU node; scrape it with honor_labels."""
        return f"{self.url}/sd/dcgm"

    def set_load(
        self,
        name: str,
        *,
        namespace: str,
        selector: Mapping[str, str],
        requests_per_second: float,
        mix: Sequence[RequestKind] = SHORT_PROMPTS,
        timeout_seconds: float = 30,
    ) -> None:
        """Offer that load to the ready pods with these labels, from now on."""
        load = Load(
            namespace=namespace,
            selector=dict(selector),
            requests_per_second=requests_per_second,
            mix=tuple(mix),
            timeout_seconds=timeout_seconds,
        )
        self._ask("PUT", f"/loads/{name}", load.model_dump())

    def change_load(
        self, name: str, *, requests_per_second: float | None = None, mix: Sequence[RequestKind] | None = None
    ) -> None:
        change = LoadChange(requests_per_second=requests_per_second, mix=tuple(mix) if mix else None)
        self._ask("PATCH", f"/loads/{name}", change.model_dump(exclude_none=True))

    def drop_load(self, name: str) -> None:
        self._ask("DELETE", f"/loads/{name}")

    def saturation_rps(self, name: str) -> float | None:
        """What one ready replica can do of this load's mix, in requests/s; None if there is no ready one."""
        rate = self._ask("GET", f"/loads/{name}/saturation")["requests_per_second_per_replica"]
        return None if rate is None else float(rate)

    def set_fault(self, name: str, match: Match, effect: Effect) -> None:
        self._ask("PUT", f"/faults/{name}", Fault(match=match, effect=effect).model_dump())

    def clear_fault(self, name: str) -> None:
        self._ask("DELETE", f"/faults/{name}")

    def set_gpu_fault(self, name: str, fault: GpuFault) -> None:
        self._ask("PUT", f"/gpu-faults/{name}", fault.model_dump())

    def clear_gpu_fault(self, name: str) -> None:
        self._ask("DELETE", f"/gpu-faults/{name}")

    def state(self) -> dict[str, Any]:
        """Replicas, loads with what became of their requests, faults: see control_server."""
        state: dict[str, Any] = self._ask("GET", "/state")
        return state

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        response = self._session.request(method, self.url + path, json=body, timeout=TIMEOUT_SECONDS)
        if not response.ok:
            raise requests.HTTPError(f"{method} {path}: {response.status_code} {response.text}", response=response)
        return response.json() if response.content else None


class Fleet(Started, FleetControl):
    """The fleet's process, and its controls while it runs."""

    def __init__(self, folder: Path, kubeconfig: Path, config: Config | None = None) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self._folder = folder
        self._config = config or Config()
        self._settings = folder / "fleet.json"
        argv = [sys.executable, "-m", "sandbox.fleet", "--kubeconfig", str(kubeconfig), "--control-port", str(port)]
        self.part = Part(
            "fleet",
            [*argv, "--config", str(self._settings)],
            log=folder / "fleet.log",
            ready=answers(f"{self.url}/healthz"),
            cwd=Path(__file__).parents[2],
        )

    def start(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(json.dumps(self._config.model_dump()))
        self.part.start()
        return self

    def stop(self) -> None:
        self.part.stop()
