from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from bot.gpu_readings import Holder, Watching
from bot.ports import Answer, SourceError
from bot.probes.gpu_xid import Params, observe
from tests.fakes import NOW
from tests.probes.fleets import world
from tests.probes.gpu_nodes import WATCHED, agent, agents, exported, gpu, xid

NOTHING = Answer(())
NODE = {"node": "gpu-01"}
FIRST, SECOND = "GPU 0 (GPU-0, 00:00) on gpu-01", "GPU 1 (GPU-1, 01:00) on gpu-01"


def ask(*events, node=None, answers=None, params=NODE, **more):
    sources, _, _ = world(answers=answers, **more)
    told = agents(node or agent(gpu(0), gpu(1)), gpu_01=tuple(events))
    return observe(Params(**params), replace(sources, gpus=told))


def ask_exporter(last=NOTHING, changed=NOTHING, before=NOTHING, params=NODE):
    answers = {"{__name__=~": last, "changes(DCGM": changed, "} offset 3600s": before}
    sources, _, _ = world(answers=answers)
    return observe(Params(**params), sources), sources.metrics.asked


def last_xid(*numbers):
    return exported(DCGM_FI_DEV_XID_ERRORS=numbers)


# ---------------------------------------------------------------------------------------------- by the agent


def test_no_xid_while_the_agent_listened_is_none():
    found = ask()
    assert (found.seen, found.xid_class, found.xids, found.count) == (False, "none", (), 0)
    assert (found.xid, found.last_minutes, found.covered_minutes) == (None, None, 24 * 60)
    assert (found.source, found.matched_by, found.missing) == ("agent", "node", None)


def test_an_xid_is_told_with_its_gpu_its_process_and_its_pod():
    holder = Holder("uid-1", "llm", "chat-0", "vllm", "kubelet")
    found = ask(xid(31, index=1, minutes=4, pid=440, process="python3", holders=(holder,)))
    assert (found.seen, found.xid, found.xid_class, found.where) == (True, 31, "application", SECOND)
    assert (found.process, found.pods, found.last_minutes) == ("python3 (440)", ("llm/chat-0",), 4)
    assert found.name and found.do and found.because
    assert (found.xids, found.count) == ((31,), 1)


def test_one_that_is_older_than_asked_about_does_not_count():
    older = xid(79, minutes=61)
    assert ask(older).seen is False
    assert ask(older, params={**NODE, "within_minutes": 90}).xid == 79


def test_a_burst_that_goes_on_counts_by_its_last():
    at = NOW - timedelta(minutes=90)
    found = ask(xid(13, minutes=1, count=7, at=at))
    assert (found.xid, found.count, found.last_minutes) == (13, 7, 1)


def test_on_several_gpus_the_gravest_decides():
    found = ask(xid(79, index=1, minutes=50, seq=1), xid(31, index=0, minutes=1, seq=2))
    assert (found.xid, found.xid_class, found.where, found.xids) == (79, "reboot", SECOND, (79, 31))
    assert (found.count, found.last_minutes) == (2, 50), "of the one that is told"


def test_one_that_came_this_moment_is_a_second_old():
    assert ask(xid(31, minutes=-0.01)).last_minutes == pytest.approx(1 / 60)


def test_an_xid_is_judged_with_its_companions_on_the_same_gpu():
    contained = ask(xid(48, seq=1), xid(94, seq=2))
    assert contained.xid_class == "application"
    uncontained = ask(xid(48, seq=1), xid(95, seq=2))
    assert (uncontained.xid, uncontained.xid_class) == (95, "reset")
    elsewhere = ask(xid(48, index=0, seq=1), xid(94, index=1, seq=2))
    assert (elsewhere.xid, elsewhere.xid_class) == (48, "reset"), "another GPU's says nothing of this one"


def test_a_double_bit_error_is_judged_with_what_the_driver_asks_for_now():
    wanting = agent(gpu(0, recovery_action="gpu_reset"), gpu(1))
    assert ask(xid(48, seq=1), xid(94, seq=2), node=wanting).xid_class == "reset"


def test_what_the_driver_asked_for_in_its_log_overrides_the_table():
    words = "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
    assert ask(xid(31, seq=1), xid(154, seq=2, message=words)).xid_class == "reboot"


def test_a_reboot_since_the_xid_is_known_and_a_reset_of_the_gpu_alone_is_not():
    anew = agent(gpu(0), gpu(1), booted_at=NOW - timedelta(minutes=10))
    found = ask(xid(95, minutes=20), node=anew)
    assert (found.seen, found.xid, found.xid_class, found.last_minutes) == (True, 95, "watch", 20)
    assert ask(xid(95, minutes=9), node=anew).xid_class == "reset"
    assert ask(xid(95, minutes=20)).xid_class == "reset"


def test_where_authorities_differ_it_says_so():
    assert ask(xid(48)).disagreement
    assert ask(xid(31)).disagreement is None


def test_an_unknown_number_is_unknown_and_not_harmless():
    found = ask(xid(999))
    assert (found.seen, found.xid, found.xid_class) == (True, 999, "unknown")


def test_other_events_are_no_xids():
    assert ask(xid(0, kind="gpu_lost", seq=1), replace(xid(0), xid=None)).seen is False


def test_of_a_replica_only_its_own_gpus_count():
    sources, cluster, _ = world()
    pod, other = cluster.pods[:2]
    node = agent(*(gpu(n, held_by=pod) for n in range(4)), *(gpu(n, held_by=other) for n in range(4, 8)))
    sources = replace(sources, gpus=agents(node, gpu_01=(xid(79, index=5), xid(31, index=2, seq=2))))
    found = observe(Params(namespace=pod.namespace, pod=pod.name), sources)
    assert (found.xids, found.matched_by) == ((31,), "uuid")


def test_by_address_where_the_driver_told_no_uuid():
    assert ask(xid(79, index=1, gpu_uuid=None)).where == SECOND


def test_of_a_whole_node_a_gpu_that_nobody_knows_counts():
    found = ask(xid(79, gpu_uuid=None, pci="0000:99:00"))
    assert (found.xid, found.where) == (79, "0000:99:00 on gpu-01")


@pytest.mark.parametrize(
    "watching",
    [
        None,
        Watching(NOW - timedelta(minutes=5), nvml=True, kernel_log="/dev/kmsg"),
        Watching(NOW - timedelta(days=1), nvml=False, kernel_log=None, kernel_log_problem="no permission"),
    ],
    ids=["does not say", "began within the hour", "hears nothing"],
)
def test_silence_of_one_who_did_not_listen_is_not_none(watching):
    found = ask(node=agent(gpu(0), watching=watching))
    assert (found.seen, found.xid_class, found.xids, found.count) == (None, None, None, None)
    assert ask(xid(31), node=agent(gpu(0), watching=watching)).xid == 31, "what it did hear counts"


def test_what_was_not_heard_all_the_time_says_how_long():
    began = replace(WATCHED, since=NOW - timedelta(minutes=5))
    assert ask(node=agent(gpu(0), watching=began)).covered_minutes == 5
    assert ask(node=agent(gpu(0), watching=began), params={**NODE, "within_minutes": 4}).seen is False


def test_an_agent_that_does_not_read_the_kernels_log_says_why():
    deaf = replace(WATCHED, kernel_log=None, kernel_log_problem="no permission")
    found = ask(node=agent(gpu(0), watching=deaf))
    assert found.seen is False, "NVML tells of them, too"
    assert found.missing == "the agent on gpu-01 does not read the kernel's log: no permission"


def test_events_that_could_not_be_fetched_are_not_none():
    sources, _, _ = world()
    gpus = agents(agent(gpu(0)))

    def fails(*_, **__):
        raise SourceError("GPU agent", "did not answer within 5 s")

    gpus.events = fails
    found = observe(Params(**NODE), replace(sources, gpus=gpus))
    assert (found.seen, found.xid_class) == (None, None)
    assert "did not answer within 5 s" in found.missing


# ---------------------------------------------------------------------------------------------- by the exporter


def test_an_exporter_that_never_saw_one_says_none():
    found, _ = ask_exporter(last_xid(0, 0), before=last_xid(0, 0))
    assert (found.seen, found.xid_class, found.source, found.matched_by) == (False, "none", "dcgm-exporter", "node")
    assert found.covered_minutes is None


def test_one_that_changed_within_the_hour_is_recent_and_has_no_time():
    found, asked = ask_exporter(last_xid(0, 79), changed=last_xid(None, 1), before=last_xid(0, 0))
    assert (found.seen, found.xid, found.xid_class, found.where) == (True, 79, "reboot", "GPU 1 (GPU-1) on gpu-01")
    assert found.last_minutes is None
    around = next(query for query in asked if "changes(" in query)
    assert "changes(DCGM_FI_DEV_XID_ERRORS{" in around and "changes(DCGM_FI_DEV_XID_ERROR{" in around
    assert "[3600s]) > 0" in around


def test_one_that_stands_since_before_is_neither_seen_nor_none():
    found, _ = ask_exporter(last_xid(31, 0), before=last_xid(31, 0))
    assert (found.seen, found.xid_class) == (None, None)
    assert (
        "Xid 31 on GPU 0 (GPU-0) on gpu-01 is older; dcgm-exporter would not show the same one again" in found.missing
    )


def test_one_whose_beginning_nobody_saw_is_not_dated():
    found, _ = ask_exporter(last_xid(31))
    assert found.seen is None
    assert "does not say since when" in found.missing


@pytest.mark.parametrize(("changed", "before"), [(last_xid(1), last_xid(79)), (NOTHING, NOTHING)])
def test_an_exporter_that_began_anew_has_forgotten(changed, before):
    found, _ = ask_exporter(last_xid(0), changed=changed, before=before)
    assert found.seen is None
    assert "dcgm-exporter began anew" in found.missing


def test_not_exported_is_unknown():
    found, _ = ask_exporter()
    assert (found.seen, found.xid_class, found.xids, found.source) == (None, None, None, None)
    assert "DCGM_FI_DEV_XID_ERRORS is not exported" in found.missing


def test_one_node_with_and_one_without_an_agent():
    sources, cluster, _ = world(answers={"{__name__=~": NOTHING})
    cluster.pods[2] = replace(cluster.pods[2], node="gpu-02")
    sources = replace(sources, gpus=agents(agent()))
    found = observe(Params(service="chat"), sources)
    assert (found.seen, found.source) == (None, "agent"), "the other node was not heard"
    sources.metrics.answers = {"{__name__=~": last_xid(0), "offset 3600s": last_xid(0)}
    both = observe(Params(service="chat"), sources)
    assert (both.seen, both.source, both.covered_minutes) == (False, "agent and dcgm-exporter", None)


def test_a_window_of_no_time_is_refused():
    with pytest.raises(ValidationError):
        Params(node="gpu-01", within_minutes=0)
