import asyncio

import pytest

from sandbox.fleet.contract import Config
from sandbox.fleet.engine import Request
from sandbox.fleet.runtime import Runtime
from sandbox.fleet.watch import Inventory
from tests.fixtures_fleet import node_json, pod_json


class Stopped(Exception):
    pass


async def tick(runtime: Runtime, times: int) -> None:
    """Let the runtime run so many ticks, and end it."""
    left = times

    async def follow() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped

    with pytest.raises(Stopped):
        await runtime.run(follow)


def inventories(*pods: dict) -> tuple[Inventory, Inventory]:
    known, nodes = Inventory(), Inventory()
    known.replace(list(pods))
    nodes.replace([node_json()])
    return known, nodes


def test_nothing_is_known_before_the_api_server_said_what_there_is():
    pods, nodes = Inventory(), inventories()[1]
    runtime = Runtime(Config(tick_seconds=0.001), pods, nodes)
    asyncio.run(tick(runtime, 2))
    assert not runtime.synced
    pods.replace([pod_json()])
    asyncio.run(tick(runtime, 2))
    assert runtime.synced
    assert [r.facts.name for r in runtime.simulation.replicas.values()] == ["chat-0"]


def test_changes_are_taken_over_at_the_next_tick():
    pods, nodes = inventories(pod_json("a"))
    runtime = Runtime(Config(tick_seconds=0.001), pods, nodes)
    asyncio.run(tick(runtime, 1))
    pods.apply("ADDED", pod_json("b", ip="127.9.0.2"))
    pods.apply("DELETED", pod_json("a"))
    asyncio.run(tick(runtime, 1))
    assert [r.facts.name for r in runtime.simulation.replicas.values()] == ["b"]


def test_a_pod_that_cannot_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture):
    broken = pod_json("broken")
    broken["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "four"
    runtime = Runtime(Config(tick_seconds=0.001), *inventories(broken, pod_json("good")))
    asyncio.run(tick(runtime, 1))
    assert [r.facts.name for r in runtime.simulation.replicas.values()] == ["good"]
    assert "Pod broken cannot be read" in caplog.text


def test_arguments_that_vllm_refuses_are_told(caplog: pytest.LogCaptureFixture):
    runtime = Runtime(Config(tick_seconds=0.001), *inventories(pod_json(args=("--max-num-seqs=lots",))))
    asyncio.run(tick(runtime, 3))
    assert caplog.text.count("llm/chat-0 does not start") == 1


def test_a_real_request_arrives_now():
    runtime = Runtime(Config(tick_seconds=0.001), *inventories(pod_json()))
    asyncio.run(tick(runtime, 1))
    (replica,) = runtime.simulation.replicas.values()
    request = Request(10, 1, 0.0)
    assert runtime.submit(replica, request) == 200
    assert 0 < request.arrived_at <= runtime.clock.now()
