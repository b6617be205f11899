from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.actions import drain_node, finder
from bot.actions.contract import Action, Aim, Progress, Stepwise
from bot.actions.drain_node import Params
from bot.fleet import Service
from bot.ports import ConflictError, Risk, SourceError
from tests.fakes import EMPTY_FLEET, NOT_ANSWERING, NOW, fake_controls, fake_sources

FITS_THE_CONTRACT: Action = drain_node  # judged by mypy
TAKES_STEPS: Stepwise = drain_node
PARAMS = Params(node="gpu-01")
BUDGET = "The disruption budget chat-70b needs 3 healthy pods and has 3 currently"


class Drain:
    """gpu-01 runs two of three replicas of chat-70b; gpu-02 has room for one more, gpu-03 for one."""

    def __init__(self, chat: Any, minimum: int = 2) -> None:
        self.chat, self.cluster = chat, chat.cluster
        self.cluster.add_node("gpu-03", gpus=4)
        service = Service(name="chat-70b", workloads=(chat.ref,), channel="#llm", minimum_ready_replicas=minimum)
        self.fleet = EMPTY_FLEET.model_copy(update={"services": (service,)})
        self.before: Any = None
        self.now = NOW

    @property
    def sources(self):
        return fake_sources(cluster=self.cluster, fleet=self.fleet, now=self.now)

    @property
    def controls(self):
        return fake_controls(cluster=self.cluster)

    def begin(self, params: Params = PARAMS) -> None:
        self.before = drain_node.preview(params, self.sources, self.controls).before
        drain_node.execute(params, self.before, self.sources, self.controls)

    def advance(self, params: Params = PARAMS):
        return drain_node.advance(params, self.before, self.sources, self.controls)

    def node(self, **fields):
        self.cluster.machines["gpu-01"] = replace(self.cluster.machines["gpu-01"], **fields)

    def evicted(self) -> list[str]:
        return [str(name).removeprefix("llm/") for what, name in self.cluster.changes if what == "evict"]

    def here(self) -> list[str]:
        return sorted(pod.name for pod in self.cluster.pods if pod.node == "gpu-01")


@pytest.fixture
def drain(chat) -> Drain:
    return Drain(chat)


# ---------------------------------------------------------------------------------------------- words


def test_words_become_parameters(drain):
    aim = Aim(None, None, None, "gpu-01")
    assert drain_node.relative({}, aim, drain.sources) == PARAMS
    words = {"node": "gpu-02", "force": "true", "delete_emptydir_data": True}
    assert drain_node.relative(words, aim, drain.sources) == Params(
        node="gpu-02", force=True, delete_emptydir_data=True
    )
    drain.cluster.add_node("gpu-09", schedulable=False)
    with pytest.raises(ValueError, match="gpu-09 is cordoned and empty already"):
        drain_node.relative({"node": "gpu-09"}, aim, drain.sources)


def test_it_says_what_it_does(drain):
    assert drain_node.RISK is Risk.HIGH
    assert drain_node.button(PARAMS) == "drain gpu-01"
    assert drain_node.describe(PARAMS) == (
        "Drain gpu-01: cordon it, then evict its pods as their disruption budgets allow. Undo: uncordon it, if it took "
        "pods before; pods that left stay where they went."
    )
    all_of_them = Params(node="gpu-01", force=True, delete_emptydir_data=True)
    assert "even those that nobody controls and those that keep data on its disk" in drain_node.describe(all_of_them)
    assert drain_node.by_hand(all_of_them) == (
        "kubectl drain gpu-01 --ignore-daemonsets --force --delete-emptydir-data --timeout=15m"
    )


def test_the_preview_names_who_goes_and_who_stays_and_changes_nothing(drain):
    drain.cluster.add_bare_pod("dcgm-exporter", owner_kind="DaemonSet")
    first, second = drain.here()[:2]
    preview = drain_node.preview(PARAMS, drain.sources, drain.controls)
    assert preview.change.after["spec"] == {"unschedulable": True}
    assert preview.change.before["pods"] == dict.fromkeys(
        (f"llm/{first}", f"llm/{second}"), "ready, 4 GPUs, of chat-70b"
    )
    assert set(preview.change.after["pods"].values()) == {"evicted"}
    assert preview.change.after["left in place"] == "1 pod of DaemonSets (dcgm-exporter)"
    assert preview.before["schedulable"] is True and preview.before["services"] == ["chat-70b"]
    assert sorted(preview.before["pods"].values()) == [f"llm/{first}", f"llm/{second}"]
    assert drain.cluster.changes == []


def test_a_preview_that_may_not_evict_says_so(drain):
    def forbidden(*args, **named):
        raise SourceError("Kubernetes", "the role does not allow `create` on `pods/eviction`")

    drain.cluster.evict = forbidden
    with pytest.raises(SourceError, match="pods/eviction"):
        drain_node.preview(PARAMS, drain.sources, drain.controls)


# ---------------------------------------------------------------------------------------------- what speaks against it


def test_where_all_find_a_place_nothing_speaks_against_it(drain):
    assert drain_node.objections(PARAMS, drain.sources) == ()


def test_all_that_speaks_against_it_is_said(drain):
    drain.node(labels={"dgxc.nvidia.com/nvsentinel-state": "quarantined"}, ready=None)
    drain.cluster.add_bare_pod("debug")
    drain.cluster.add_budget(drain.chat.ref, minimum=3)
    del drain.cluster.machines["gpu-03"]
    words = " | ".join(drain_node.objections(PARAMS, drain.sources))
    for part in ("NVSentinel holds gpu-01", "is not ready: its kubelet", "llm/debug: nobody controls it",
                 "disruption budget chat-70b wants 3 of 3", "no free GPUs elsewhere for 1 of the 2"):  # fmt: skip
        assert part in words


def test_a_node_that_is_out_already_or_gone_is_told(drain):
    drain.node(schedulable=False)
    drain.cluster.pods = [pod for pod in drain.cluster.pods if pod.node != "gpu-01"]
    assert drain_node.objections(PARAMS, drain.sources) == ("gpu-01 is cordoned and empty already",)
    del drain.cluster.machines["gpu-01"]
    assert "does not exist any more" in drain_node.objections(PARAMS, drain.sources)[0]
    assert drain_node.took_effect(PARAMS, drain.sources).progress is Progress.NO
    with pytest.raises(ConflictError):
        drain_node.execute(PARAMS, {}, drain.sources, drain.controls)


# ---------------------------------------------------------------------------------------------- rounds


def test_one_replica_goes_a_round_and_the_next_waits_for_its_replacement(drain):
    drain.begin()
    assert drain.cluster.changes == [("cordon", "gpu-01")]
    first, second = drain.here()
    effect = drain.advance()
    assert drain.evicted() == [first]
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, "0 of 2 pods gone; 1 pod on the way out")
    effect = drain.advance()
    assert drain.evicted() == [first]
    assert effect.detail == (
        f"0 of 2 pods gone; 1 pod on the way out; {second} waits: chat-70b has 2 ready and keeps 2 "
        f"(minimum_ready_replicas)"
    )
    drain.cluster.replace_pods(ready=False)
    starting = drain.cluster.pods[-1].name
    assert drain.advance().detail == (
        f"1 of 2 pods gone; {second} waits: chat-70b has 2 ready and keeps 2 (minimum_ready_replicas); starting: "
        f"{starting}"
    )
    drain.cluster.replace_pods()
    drain.advance()
    assert drain.evicted() == [first, second]
    drain.cluster.replace_pods(ready=False)
    effect = drain.advance()
    assert (effect.progress, effect.detail) == (
        Progress.YES,
        "gpu-01 is empty: 2 of 2 pods gone; 2 of 3 replicas of chat-70b ready",
    )
    assert drain.evicted() == [first, second]


def test_where_the_service_has_enough_nobody_is_waited_for(chat):
    drain = Drain(chat, minimum=1)
    drain.begin()
    first, second = drain.here()
    drain.advance()
    drain.advance()
    assert drain.evicted() == [first, second]


def test_those_that_serve_nobody_go_first_and_need_no_replacement(drain):
    first, second = drain.here()
    drain.cluster.pods[1] = replace(drain.cluster.pods[1], ready=False)
    drain.begin()
    drain.advance()
    assert drain.evicted() == [second]
    effect = drain.advance()
    assert drain.evicted() == [second]
    assert f"{first} waits: chat-70b has 2 ready and keeps 2" in effect.detail


def test_what_a_budget_refuses_is_told_in_its_words_and_asked_again(chat):
    drain = Drain(chat, minimum=0)
    drain.begin()
    drain.cluster.add_budget(chat.ref, minimum=3)
    first, second = drain.here()
    effect = drain.advance()
    assert (effect.progress, effect.detail) == (
        Progress.NOT_YET,
        f"0 of 2 pods gone; {first} waits: {BUDGET} (and 1 more)",
    )
    assert drain.evicted() == []
    drain.cluster.limits = [replace(drain.cluster.limits[0], needed=2)]
    drain.advance()
    assert drain.evicted() == [first]
    assert second in drain.here()


def test_a_replacement_that_finds_no_gpus_stands_still_and_is_named(drain):
    drain.begin()
    for name in ("gpu-02", "gpu-03"):
        drain.cluster.machines[name] = replace(drain.cluster.machines[name], gpus=4 if name == "gpu-02" else 0)
    drain.advance()
    drain.cluster.replace_pods()
    pending = drain.cluster.pods[-1].name
    effect = drain.advance()
    assert effect.progress is Progress.PARTLY
    assert f"; {pending} is Pending: 0/3 nodes are available: Insufficient nvidia.com/gpu." in effect.detail


def test_pods_of_no_service_go_all_at_once_and_daemons_stay(drain):
    for name in ("nightly", "batch"):
        drain.cluster.add_bare_pod(name, owner_kind="Job")
    drain.cluster.add_bare_pod("dcgm-exporter", owner_kind="DaemonSet")
    drain.begin()
    drain.advance()
    assert drain.evicted()[-2:] == ["batch", "nightly"] and len(drain.evicted()) == 3
    drain.cluster.replace_pods()
    drain.advance()
    drain.cluster.replace_pods()
    effect = drain.advance()
    assert effect.progress is Progress.YES
    assert effect.detail == "gpu-01 is empty: 4 of 4 pods gone; left in place: 1 pod of DaemonSets (dcgm-exporter)"
    assert "dcgm-exporter" in drain.here()


def test_a_pod_that_came_after_the_approval_is_not_lost_unasked(drain):
    drain.begin()
    drain.cluster.add_bare_pod("debug")
    effect = drain.advance()
    assert "debug waits: nobody controls it" in effect.detail
    assert "debug" not in drain.evicted()
    drain.advance(Params(node="gpu-01", force=True))
    assert "debug" in drain.evicted()


def test_a_right_that_is_missing_for_one_pod_holds_up_no_other(drain):
    drain.cluster.add_bare_pod("somebody-elses", owner_kind="Job")
    drain.begin()
    ask = drain.cluster.evict

    def evict(namespace, pod, **named):
        if pod == "somebody-elses":
            raise SourceError("Kubernetes", "the role does not allow `create` on `pods/eviction` in namespace x")
        return ask(namespace, pod, **named)

    drain.cluster.evict = evict
    effect = drain.advance()
    assert len(drain.evicted()) == 1
    assert "somebody-elses waits: Kubernetes: the role does not allow" in effect.detail


def test_an_api_server_that_does_not_answer_is_an_error_not_an_answer(drain):
    drain.begin()
    drain.cluster.evict = lambda *args, **named: (_ for _ in ()).throw(NOT_ANSWERING)
    with pytest.raises(SourceError, match="did not answer"):
        drain.advance()


def test_a_pod_that_does_not_end_is_named(drain):
    drain.begin()
    drain.advance()
    drain.now += timedelta(minutes=5)
    (first,) = drain.evicted()
    assert f"{first} should have ended by now: does the kubelet answer?" in drain.advance().detail


def test_whoever_uncordons_the_node_calls_the_drain_off(drain):
    drain.begin()
    drain.advance()
    drain.node(schedulable=True)
    effect = drain.advance()
    assert effect.progress is Progress.NO
    assert effect.detail.startswith("gpu-01 takes pods: somebody uncordoned it, which calls the drain off")
    assert len(drain.evicted()) == 1


def test_a_round_that_is_repeated_after_a_crash_evicts_nobody_twice(chat):
    drain = Drain(chat, minimum=0)
    drain.begin()
    for _ in range(4):
        drain.begin()
        drain.advance()
    assert len(drain.evicted()) == len(set(drain.evicted())) == 2
    assert [what for what, _ in drain.cluster.changes].count("cordon") == 1


# ---------------------------------------------------------------------------------------------- way back, capacity


def test_its_way_back_is_to_uncordon_only_what_took_pods_before(drain):
    back = finder.way_back("drain_node", PARAMS, {"schedulable": True})
    assert back is not None
    assert (back.action, back.params.model_dump()) == ("uncordon_node", {"node": "gpu-01", "schedulable": True})
    assert finder.way_back("drain_node", PARAMS, {"schedulable": False}) is None


def test_a_node_that_was_cordoned_before_is_drained_too(drain):
    drain.node(schedulable=False)
    drain.begin()
    assert drain.before["schedulable"] is False
    drain.advance()
    assert [what for what, _ in drain.cluster.changes] == ["evict"]


def test_what_it_costs_is_told_by_workload(drain):
    changes = drain_node.capacity_change(PARAMS, drain.sources)
    change = changes[drain.chat.ref]
    assert (change.replicas, change.ready, change.replaced) == (3, 3, 2)
    assert (change.lost, change.waves, change.gpus_needed) == (1, 2, 8)


def test_a_service_without_a_replica_to_spare_would_lose_one_too_many(chat):
    drain = Drain(chat, minimum=3)
    assert drain_node.capacity_change(PARAMS, drain.sources)[chat.ref].lost == 1


def test_two_workloads_of_one_service_share_what_it_can_spare(drain):
    canary = drain.cluster.add_workload(name="chat-70b-canary", replicas=1, node="gpu-01", gpus=1)
    service = drain.fleet.services[0].model_copy(update={"workloads": (drain.chat.ref, canary)})
    drain.fleet = EMPTY_FLEET.model_copy(update={"services": (service,)})
    changes = drain_node.capacity_change(PARAMS, drain.sources)
    assert [changes[ref].lost for ref in (drain.chat.ref, canary)] == [2, 0]  # 4 ready, 2 stay


def test_pods_that_serve_nobody_cost_nothing(drain):
    drain.cluster.pods[:2] = [replace(pod, ready=False) for pod in drain.cluster.pods[:2]]
    assert drain_node.capacity_change(PARAMS, drain.sources)[drain.chat.ref].lost == 0
