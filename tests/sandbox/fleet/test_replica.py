import pytest

from sandbox.fleet.capacity import Gpu
from sandbox.fleet.contract import Effect, ModelProfile
from sandbox.fleet.engine import Request, State
from sandbox.fleet.replica import Replica, combined, key_of
from tests.fixtures_fleet import DEFAULT_ARGS, pod

H100 = Gpu("NVIDIA-H100-80GB-HBM3", 81_559)


def replica(**more) -> Replica:
    return Replica(pod(**more), H100, lambda model: ModelProfile(), 0.0)


def test_nobody_listens_before_the_pod_was_ready():
    cold = replica(ready=False)
    assert not cold.listens
    with pytest.raises(ConnectionRefusedError):
        cold.submit(Request(10, 10, 0.0), 0.0)
    cold.update(pod(), 5.0)
    assert cold.listens
    assert cold.process.started_at == 5.0


def test_a_loaded_server_listens_on_when_its_pod_is_no_longer_ready_but_gets_no_traffic():
    server = replica()
    server.update(pod(ready=False), 1.0)
    assert (server.listens, server.takes_traffic) == (True, False)


def test_a_terminating_pod_drops_its_requests():
    server = replica()
    request = Request(10, 1000, 0.0)
    server.submit(request, 0.0)
    server.update(pod(terminating=True), 1.0)
    assert request.state is State.LOST
    assert (server.listens, server.takes_traffic) == (False, False)
    assert server.advance(1.0) == [request]


def test_a_restart_is_another_run():
    assert key_of(pod()) != key_of(pod(restarts=1))
    assert key_of(pod()) == key_of(pod(ready=False))


def test_arguments_that_vllm_refuses_keep_it_from_listening_and_the_reason_is_kept():
    server = replica(args=(*DEFAULT_ARGS, "--max-num-seqs=none"))
    assert not server.listens
    assert "--max-num-seqs" in server.refusal


def test_a_prompt_longer_than_the_context_is_a_bad_request():
    server = replica()
    assert server.submit(Request(40_000, 10, 0.0), 0.0) == 400
    assert server.process.http.requests == {("/v1/completions", "POST", "4xx"): 1}
    assert server.process.engine.outstanding == 0


def test_a_full_queue_is_a_503():
    server = replica(args=(*DEFAULT_ARGS, "--max-num-seqs=1", "--max-num-queued-reqs=1"))
    assert [server.submit(Request(10, 100, 0.0), 0.0) for _ in range(3)] == [200, 200, 503]
    assert server.process.measured.rejections["max_num_queued_reqs"] == 1


def test_finished_and_abandoned_requests_are_counted_as_2xx():
    server = replica()
    first, second = Request(10, 2, 0.0), Request(10, 500, 0.0)
    for request in (first, second):
        server.submit(request, 0.0)
    server.process.engine.abort(second, 1.0)
    server.advance(2.0)
    assert server.process.http.requests == {("/v1/completions", "POST", "2xx"): 2}


def test_a_slower_server_takes_as_many_times_longer():
    def seconds(slowdown: float) -> float:
        server = replica()
        server.apply([Effect(slowdown=slowdown)], 0.0)
        request = Request(100, 50, 0.0)
        server.submit(request, 0.0)
        server.advance(100.0)
        return request.ended_at

    assert seconds(4) == pytest.approx(4 * seconds(1))


def test_a_hung_server_answers_nothing_more_and_a_healed_one_goes_on():
    server = replica()
    server.apply([Effect(hung=True)], 0.0)
    request = Request(10, 10, 0.0)
    assert server.submit(request, 0.0) == 200
    server.advance(60.0)
    assert not request.done
    server.apply([], 60.0)
    server.advance(61.0)
    assert request.state is State.FINISHED


def test_a_dead_server_comes_back_with_counters_at_zero():
    server = replica()
    server.submit(Request(10, 2, 0.0), 0.0)
    server.advance(5.0)
    server.apply([Effect(dead=True)], 5.0)
    assert (server.listens, server.takes_traffic) == (False, True)
    server.apply([], 9.0)
    assert server.listens
    assert server.process.measured.finished_total == 0


def test_effects_of_several_faults_add_up():
    first = Effect(slowdown=2, hidden_metrics=("a",))
    second = Effect(slowdown=3, asleep=1, renamed_metrics={"b": "c"})
    both = Effect(slowdown=6, asleep=1, hidden_metrics=("a",), renamed_metrics={"b": "c"})
    assert combined([first, second]) == both


def test_the_version_is_that_of_the_image():
    assert replica(image="vllm/vllm-openai:v0.33.0").version == "0.33.0"
    assert replica(image="registry/vllm@sha256:123").version == "0.32.0"


def test_the_port_may_be_given():
    assert replica(args=("--port=8200", *DEFAULT_ARGS)).port == 8200
