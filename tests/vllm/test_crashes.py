from datetime import timedelta

import pytest

from bot.ports import ContainerState, Event
from bot.vllm.crashes import Crash, endings
from tests.fakes import NOW, container

LIVENESS = "Container vllm failed liveness probe, will be restarted"
STARTUP = "Container vllm failed startup probe, will be restarted"


def ended(code: int, reason: str = "Error", **more) -> ContainerState:
    return ContainerState("terminated", reason, exit_code=code, at=NOW, **more)


def killing(message: str, *, seconds_before: float = 20) -> Event:
    return Event(NOW - timedelta(seconds=seconds_before), "Pod", "chat-1", "Normal", "Killing", message, 1)


def crash(state: ContainerState, *events: Event) -> Crash:
    (found,) = endings(container(last_state=state), events)
    return found.crash


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (0, "Completed", Crash.ENGINE_DIED),
        (1, "Error", Crash.FAILED),
        (2, "Error", Crash.BAD_ARGUMENTS),
        (134, "Error", Crash.ABORTED),
        (137, "OOMKilled", Crash.OOM_KILLED),
        (0, "OOMKilled", Crash.OOM_KILLED),
        (137, "Error", Crash.KILLED),
        (137, "ContainerStatusUnknown", Crash.NODE_LOST),
        (139, "Error", Crash.SEGMENTATION_FAULT),
        (143, "Error", Crash.TERMINATED),
        (128, "StartError", Crash.CANNOT_START),
        (77, "Error", Crash.OTHER),
    ],
)
def test_code_and_reason_tell_how_it_ended(code, reason, expected):
    assert crash(ended(code, reason)) is expected


@pytest.mark.parametrize("code", [0, 137, 143])
def test_what_a_probe_killed_did_not_die_by_itself_whatever_its_code(code):
    assert crash(ended(code), killing(LIVENESS)) is Crash.LIVENESS_PROBE
    assert crash(ended(code), killing(STARTUP)) is Crash.STARTUP_PROBE


@pytest.mark.parametrize("code", [0, 137, 143])
@pytest.mark.parametrize(
    "words",
    [
        "Stopping container vllm",
        "Container vllm definition changed, will be restarted",
        "Container vllm resize requires restart",
    ],
)
def test_what_kubernetes_was_asked_to_end_is_no_death_of_its_engine(code, words):
    assert crash(ended(code), killing(words)) is Crash.STOPPED
    assert crash(ended(code), killing(words.replace("vllm", "vllm-proxy"))) is not Crash.STOPPED


def test_a_kill_of_another_run_or_another_container_explains_nothing():
    started = NOW - timedelta(seconds=10)
    assert crash(ended(0, started_at=started), killing(LIVENESS, seconds_before=60)) is Crash.ENGINE_DIED
    assert crash(ended(0), killing(LIVENESS, seconds_before=3600)) is Crash.ENGINE_DIED
    assert crash(ended(0), killing(LIVENESS.replace("vllm", "proxy"))) is Crash.ENGINE_DIED


def test_out_of_memory_goes_before_a_probe():
    assert crash(ended(137, "OOMKilled"), killing(LIVENESS)) is Crash.OOM_KILLED


def test_a_container_that_runs_has_ended_only_before():
    assert endings(container(), ()) == ()
    twice = container(state=ended(1), last_state=ended(2))
    assert [e.crash for e in endings(twice, ())] == [Crash.FAILED, Crash.BAD_ARGUMENTS]


def test_how_long_it_lived_is_known_from_its_start():
    state = ended(1, started_at=NOW - timedelta(minutes=3))
    assert endings(container(last_state=state), ())[0].lived_seconds == 180
    assert endings(container(last_state=ended(1)), ())[0].lived_seconds is None
