from dataclasses import replace

from bot.ports import ContainerState
from bot.vllm.stuck import first_stuck, living, stuck_because
from tests.fakes import NOW, FakeCluster, container


def pods(*arguments: dict):
    cluster = FakeCluster()
    ref = cluster.add_workload(replicas=0)
    return tuple(cluster.add_pod(ref, **more) for more in arguments)


def waiting(reason: str, message: str = "", last: int | None = None):
    ended = ContainerState("terminated", "Error", exit_code=last) if last is not None else None
    return {
        "containers": [container(state=ContainerState("waiting", reason, message), last_state=ended)],
        "ready": False,
    }


def test_a_pod_that_no_node_takes_tells_the_schedulers_words():
    (pod,) = pods({"node": None, "unschedulable": "0/4 nodes are available"})
    assert stuck_because(pod) == f"{pod.name} is Pending: 0/4 nodes are available"


def test_a_pod_that_was_only_just_made_may_yet_come():
    assert first_stuck(pods({"node": None}, {}, waiting("ContainerCreating"))) is None


def test_a_crash_loop_tells_its_last_exit_code():
    (pod,) = pods(waiting("CrashLoopBackOff", "back-off 5m0s", last=137))
    assert stuck_because(pod) == f"{pod.name} is in CrashLoopBackOff (last exit code 137): back-off 5m0s"


def test_an_image_that_cannot_be_pulled_stands_still():
    (pod,) = pods(waiting("ImagePullBackOff"))
    assert stuck_because(pod) == f"{pod.name} is in ImagePullBackOff"


def test_one_is_named_and_the_others_are_counted():
    three = pods(*[{"node": None, "unschedulable": "no room"}] * 3)
    assert first_stuck(three) == f"{min(p.name for p in three)} is Pending: no room (and 2 more)"


def test_pods_that_are_going_and_evicted_ones_do_not_count():
    going, evicted, there = pods({}, {}, {})
    assert living((replace(going, deleted_at=NOW), replace(evicted, phase="Failed"), there)) == (there,)
