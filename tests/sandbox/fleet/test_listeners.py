import pytest
import requests

from sandbox.fleet.contract import Effect, Match
from tests.fixtures_fleet import PlayedFleet, pod_json, until


def health(ip: str) -> int:
    return requests.get(f"http://{ip}:8000/health", timeout=5).status_code


def refuses(ip: str) -> bool:
    try:
        health(ip)
    except requests.ConnectionError:
        return True
    return False


def test_each_pod_answers_at_its_own_address(played_fleet: PlayedFleet):
    first, second = f"{played_fleet.prefix}.1", f"{played_fleet.prefix}.2"
    played_fleet.see(
        pod_json("chat-0", ip=first, image="vllm/vllm-openai:v0.32.0"),
        pod_json("chat-1", ip=second, image="vllm/vllm-openai:v0.33.0"),
    )
    until(lambda: played_fleet.listening("chat-0") and played_fleet.listening("chat-1"))
    assert requests.get(f"http://{first}:8000/version", timeout=5).json() == {"version": "0.32.0"}
    assert requests.get(f"http://{second}:8000/version", timeout=5).json() == {"version": "0.33.0"}


def test_connections_are_refused_until_the_pod_was_ready(played_fleet: PlayedFleet):
    ip = f"{played_fleet.prefix}.1"
    played_fleet.see(pod_json(ip=ip, ready=False))
    until(lambda: bool(played_fleet.control.state()["replicas"]))
    assert refuses(ip)
    played_fleet.see(pod_json(ip=ip))
    until(lambda: not refuses(ip))


def test_an_address_passes_from_one_pod_to_the_next(played_fleet: PlayedFleet):
    ip = f"{played_fleet.prefix}.1"
    played_fleet.see(pod_json("old", ip=ip, image="x/vllm:v0.31.0"))
    until(lambda: played_fleet.listening("old"))
    played_fleet.see(pod_json("new", ip=ip, image="x/vllm:v0.33.0"))
    until(lambda: played_fleet.listening("new"))
    until(lambda: requests.get(f"http://{ip}:8000/version", timeout=5).json() == {"version": "0.33.0"})


def test_a_dead_server_refuses_and_comes_back(played_fleet: PlayedFleet):
    ip = f"{played_fleet.prefix}.1"
    played_fleet.see(pod_json(ip=ip))
    until(lambda: not refuses(ip))
    played_fleet.control.set_fault("dead", Match(pod="chat-0"), Effect(dead=True))
    until(lambda: refuses(ip))
    played_fleet.control.clear_fault("dead")
    until(lambda: not refuses(ip))


def test_an_address_that_cannot_be_had_hurts_only_its_pod(played_fleet: PlayedFleet, caplog: pytest.LogCaptureFixture):
    good = f"{played_fleet.prefix}.1"
    played_fleet.see(pod_json("far", ip="192.0.2.1"), pod_json("near", ip=good))
    until(lambda: not refuses(good))
    until(lambda: "Cannot listen on 192.0.2.1:8000 for far" in caplog.text)
    assert caplog.text.count("Cannot listen") == 1
