"""The fleet's controls over HTTP: loads and faults; and what Prometheus asks for: targets, and pages about GPUs."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from sandbox.fleet import dcgm
from sandbox.fleet.contract import Fault, GpuFault, Load, LoadChange
from sandbox.fleet.replica import Replica
from sandbox.fleet.runtime import Runtime

Model = TypeVar("Model", bound=BaseModel)


class ControlServer:
    def __init__(self, runtime: Runtime, address: str) -> None:
        """`address`: host:port by which Prometheus reaches this server."""
        self._runtime = runtime
        self._address = address

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_explain])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/state", self._state),
                web.put("/loads/{name}", self._put_load),
                web.patch("/loads/{name}", self._patch_load),
                web.delete("/loads/{name}", self._delete_load),
                web.get("/loads/{name}/saturation", self._saturation),
                web.put("/faults/{name}", self._put_fault),
                web.delete("/faults/{name}", self._delete_fault),
                web.put("/gpu-faults/{name}", self._put_gpu_fault),
                web.delete("/gpu-faults/{name}", self._delete_gpu_fault),
                web.get("/sd/vllm", self._sd_vllm),
                web.get("/sd/dcgm", self._sd_dcgm),
                web.get("/dcgm/{node}/metrics", self._dcgm),
            ]
        )
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        if not self._runtime.synced:
            return web.Response(status=503, text="The API server has not said yet which pods and nodes there are.")
        return web.Response(text="ok")

    async def _state(self, request: web.Request) -> web.Response:
        simulation = self._runtime.simulation
        return web.json_response(
            {
                "replicas": [_replica(replica) for replica in simulation.replicas.values()],
                "loads": {
                    name: {**stream.load.model_dump(), "tally": stream.tally.as_dict()}
                    for name, stream in simulation.traffic.streams.items()
                },
                "faults": {name: fault.model_dump() for name, fault in simulation.faults.items()},
                "gpu_faults": {name: fault.model_dump() for name, fault in simulation.gpu_faults.items()},
            }
        )

    # --- loads

    async def _put_load(self, request: web.Request) -> web.Response:
        load = await _body(request, Load)
        self._runtime.simulation.set_load(request.match_info["name"], load, self._runtime.clock.now())
        return web.json_response(load.model_dump())

    async def _patch_load(self, request: web.Request) -> web.Response:
        change = await _body(request, LoadChange)
        load = self._load(request).model_copy(update={k: getattr(change, k) for k in change.model_fields_set})
        self._runtime.simulation.set_load(request.match_info["name"], load, self._runtime.clock.now())
        return web.json_response(load.model_dump())

    async def _delete_load(self, request: web.Request) -> web.Response:
        self._load(request)
        self._runtime.simulation.drop_load(request.match_info["name"], self._runtime.clock.now())
        return web.Response(status=204)

    async def _saturation(self, request: web.Request) -> web.Response:
        self._load(request)
        rate = self._runtime.simulation.saturation_rps(request.match_info["name"])
        return web.json_response({"requests_per_second_per_replica": rate})

    def _load(self, request: web.Request) -> Load:
        name = request.match_info["name"]
        streams = self._runtime.simulation.traffic.streams
        if name not in streams:
            raise web.HTTPNotFound(text=f"No load {name!r}; there are: {', '.join(streams) or 'none'}")
        return streams[name].load

    # --- faults

    async def _put_fault(self, request: web.Request) -> web.Response:
        fault = await _body(request, Fault)
        self._runtime.simulation.set_fault(request.match_info["name"], fault, self._runtime.clock.now())
        return web.json_response(fault.model_dump())

    async def _delete_fault(self, request: web.Request) -> web.Response:
        self._runtime.simulation.set_fault(request.match_info["name"], None, self._runtime.clock.now())
        return web.Response(status=204)

    async def _put_gpu_fault(self, request: web.Request) -> web.Response:
        fault = await _body(request, GpuFault)
        self._runtime.simulation.set_gpu_fault(request.match_info["name"], fault)
        return web.json_response(fault.model_dump())

    async def _delete_gpu_fault(self, request: web.Request) -> web.Response:
        self._runtime.simulation.set_gpu_fault(request.match_info["name"], None)
        return web.Response(status=204)

    # --- Prometheus

    async def _sd_vllm(self, request: web.Request) -> web.Response:
        """Every pod that has an address, loaded or not, with the labels that a PodMonitor gives."""
        groups = [
            {
                "targets": [f"{replica.facts.ip}:{replica.port}"],
                "labels": {
                    "namespace": replica.facts.namespace,
                    "pod": replica.facts.name,
                    "container": replica.facts.container,
                    "node": replica.facts.node or "",
                },
            }
            for replica in self._runtime.simulation.replicas.values()
            if replica.facts.ip is not None and not replica.facts.terminating
        ]
        return web.json_response(groups)

    async def _sd_dcgm(self, request: web.Request) -> web.Response:
        """One exporter a node. Scrape with honor_labels, or the pods' names become `exported_pod`."""
        groups = [
            {
                "targets": [self._address],
                "labels": {"__metrics_path__": f"/dcgm/{node}/metrics", "node": node, "instance": f"{node}:9400"},
            }
            for node in self._runtime.simulation.gpus.nodes
        ]
        return web.json_response(groups)

    async def _dcgm(self, request: web.Request) -> web.Response:
        exporter = self._runtime.simulation.gpus.exporter(request.match_info["node"])
        if exporter is None:
            raise web.HTTPServiceUnavailable(text="No exporter answers for this node.")
        return web.Response(text=dcgm.page(exporter))


def _replica(replica: Replica) -> dict[str, Any]:
    engine = replica.process.engine if replica.process else None
    return {
        "namespace": replica.facts.namespace,
        "pod": replica.facts.name,
        "node": replica.facts.node,
        "address": f"{replica.facts.ip}:{replica.port}",
        "model": replica.model,
        "image": replica.facts.image,
        "takes_traffic": replica.takes_traffic,
        "listens": replica.listens,
        "refusal": replica.refusal,
        "effect": replica.effect.model_dump(),
        "max_num_seqs": replica.capacity.limits.max_num_seqs if replica.capacity else None,
        "kv_tokens": replica.capacity.limits.kv_tokens if replica.capacity else None,
        "running": engine.running if engine else None,
        "waiting": engine.waiting if engine else None,
        "kv_cache_usage": engine.kv_cache_usage if engine else None,
    }


async def _body(request: web.Request, model: type[Model]) -> Model:
    return model.model_validate_json(await request.read())


@web.middleware
async def _explain(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValidationError as error:
        return web.Response(status=422, text=f"{request.method} {request.path}: {error}")
