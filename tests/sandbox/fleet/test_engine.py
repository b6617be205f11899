from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.fleet.engine import Engine, Limits, Request, State, StepCost
from sandbox.fleet.measurements import EngineMeasurements

# 10 ms for the host; the GPU is faster than that up to 18 sequences.
COST = StepCost(0.010, 0.001, 0.0005, 0.00005, 0.0)
LIMITS = Limits(max_num_seqs=16, max_num_batched_tokens=2048, max_model_len=8192, block_size=16, num_blocks=2049)


def engine(limits: Limits = LIMITS, cost: StepCost = COST, **changed) -> Engine:
    fields = {name: getattr(limits, name) for name in Limits.__slots__} | changed
    return Engine(Limits(**fields), cost, EngineMeasurements(limits.max_model_len))


def request(prompt: int = 100, output: int = 10, at: float = 0.0, **more) -> Request:
    return Request(prompt, output, at, **more)


def test_one_request_alone_takes_one_step_a_token():
    alone = engine()
    asked = request(output=10)
    alone.submit(asked, 0.0)
    alone.advance(1.0)
    assert asked.state is State.FINISHED
    assert abs(asked.first_token_at - 0.010) < 1e-9
    assert abs(asked.ended_at - 0.100) < 1e-9
    assert alone.measurements.ttft.count == 1
    assert alone.measurements.inter_token.count == 9
    assert abs(alone.measurements.tpot.sum - 0.010) < 1e-9
    assert alone.measurements.generation_tokens == 10
    assert alone.measurements.prompt_tokens == 100


def test_no_more_run_than_max_num_seqs_and_the_rest_waits_in_order():
    busy = engine(max_num_seqs=2)
    asked = [request(output=5) for _ in range(4)]
    for each in asked:
        busy.submit(each, 0.0)
    busy.advance(0.02)
    assert (busy.running, busy.waiting) == (2, 2)
    busy.advance(10.0)
    starts = [each.scheduled_at for each in asked]
    assert starts == sorted(starts)
    assert all(each.state is State.FINISHED for each in asked)
    assert busy.measurements.queue.count == 4


def test_a_larger_batch_makes_every_token_slower_once_the_gpu_is_the_slower_part():
    def tpot(batch: int) -> float:
        full = engine(max_num_seqs=batch)
        for _ in range(batch):
            full.submit(request(prompt=1, output=50), 0.0)
        full.advance(100.0)
        return full.measurements.tpot.sum / batch

    assert abs(tpot(1) - tpot(8)) < 0.001
    assert tpot(64) > 2.5 * tpot(8)


def test_a_small_batch_leaves_the_gpu_idle_for_part_of_the_time():
    def busy_ratio(batch: int) -> float:
        full = engine(max_num_seqs=batch)
        for _ in range(200):
            full.submit(request(prompt=1, output=50), 0.0)
        full.advance(2.0)
        return full.measurements.gpu_busy_seconds / 2.0

    assert busy_ratio(2) < 0.3
    assert busy_ratio(18) > 0.9


def test_a_long_prompt_is_computed_in_chunks_and_delays_the_tokens_of_others():
    mixed = engine()
    short = request(output=100)
    mixed.submit(short, 0.0)
    mixed.advance(0.05)
    long = request(prompt=8000, output=1, at=0.05)
    mixed.submit(long, 0.05)
    mixed.advance(10.0)
    # 8000 tokens at 2047 a step beside the other's one; a full step takes over 100 ms instead of 10.
    assert long.first_token_at - long.scheduled_at > 0.35
    slow_gaps = sum(mixed.measurements.inter_token.counts[5:])
    assert 3 <= slow_gaps <= 5


def test_a_threshold_for_long_prefills_keeps_the_others_going():
    def slow_gaps(threshold: int) -> int:
        mixed = engine(long_prefill_token_threshold=threshold)
        mixed.submit(request(output=100), 0.0)
        mixed.advance(0.05)
        mixed.submit(request(prompt=8000, output=1, at=0.05), 0.05)
        mixed.advance(10.0)
        return sum(mixed.measurements.inter_token.counts[4:])

    assert slow_gaps(0) > 0
    assert slow_gaps(256) == 0


def test_cached_tokens_are_not_computed_but_take_blocks():
    cached = engine()
    asked = request(prompt=4000, output=2, cached_tokens=3900)
    cached.submit(asked, 0.0)
    assert cached.kv_cache_usage > 0.1
    cached.advance(0.011)
    assert asked.first_token_at is not None
    assert cached.measurements.prefix_hits == 3900
    cached.advance(1.0)
    assert cached.kv_cache_usage == 0.0
    assert cached.measurements.request_computed_tokens.sum == 100


def test_without_prefix_caching_everything_is_computed():
    plain = engine(prefix_caching=False)
    plain.submit(request(prompt=4000, output=1, cached_tokens=3900), 0.0)
    plain.advance(1.0)
    assert plain.measurements.prefix_queries == 0
    assert plain.measurements.request_computed_tokens.sum == 4000


def test_running_out_of_blocks_preempts_the_newest_which_still_finishes():
    tight = engine(num_blocks=33, max_model_len=512)  # 512 tokens for all
    asked = [request(prompt=60, output=100) for _ in range(6)]
    for each in asked:
        tight.submit(each, 0.0)
    tight.advance(60.0)
    assert all(each.state is State.FINISHED for each in asked)
    assert tight.measurements.preemptions > 0
    assert asked[0].preemptions == 0
    assert asked[-1].preemptions > 0
    assert tight.measurements.request_preemptions.sum == tight.measurements.preemptions
    assert tight.measurements.prompt_tokens == 360, "a prompt that is computed again is not counted again"


def test_a_prompt_that_does_not_fit_now_holds_up_all_behind_it():
    tight = engine(num_blocks=33, max_model_len=512)
    tight.submit(request(prompt=300, output=20), 0.0)
    tight.submit(request(prompt=400, output=5), 0.0)
    small = request(prompt=10, output=5)
    tight.submit(small, 0.0)
    tight.advance(0.1)
    assert small.state is State.WAITING
    tight.advance(5.0)
    assert small.state is State.FINISHED


def test_a_queue_limit_rejects_and_says_which_one():
    limited = engine(max_num_seqs=1, max_num_queued_reqs=2)
    asked = [request() for _ in range(4)]
    assert [limited.submit(each, 0.0) for each in asked] == [True, True, True, False]
    assert asked[3].state is State.REJECTED
    assert limited.measurements.rejections == {"max_num_queued_reqs": 1, "max_num_queued_tokens": 0}


def test_a_client_that_leaves_frees_its_place_and_is_not_counted_as_finished():
    busy = engine(max_num_seqs=1)
    running, waiting, last = (request(output=1000), request(output=5), request(output=5))
    for each in (running, waiting, last):
        busy.submit(each, 0.0)
    busy.abort(waiting, 0.05)
    assert (busy.running, busy.waiting) == (1, 1)
    busy.abort(running, 0.055)
    busy.advance(1.0)
    assert last.state is State.FINISHED
    assert busy.measurements.finished_total == 1
    assert busy.measurements.finished["abort"] == 0
    assert busy.kv_cache_usage == 0.0


def test_a_paused_engine_shows_the_gauges_of_its_last_step_and_goes_on_afterwards():
    hung = engine()
    first = request(output=20)
    hung.submit(first, 0.0)
    hung.advance(0.05)
    hung.pause(0.055)
    hung.submit(request(at=1.0), 1.0)
    hung.advance(60.0)
    steps = hung.measurements.step_tokens.count
    assert (hung.measurements.running, hung.measurements.waiting) == (1, 0)
    assert not first.done
    hung.resume(60.0)
    hung.advance(61.0)
    assert first.state is State.FINISHED
    assert hung.measurements.step_tokens.count > steps
    assert hung.measurements.inter_token.counts[-2:] == [1, 0], "one token took a minute"


def test_a_stopped_engine_loses_what_it_had():
    stopped = engine(max_num_seqs=1)
    asked = [request(output=100), request(output=100)]
    for each in asked:
        stopped.submit(each, 0.0)
    stopped.stop(0.1)
    assert [each.state for each in asked] == [State.LOST, State.LOST]
    assert stopped.take_ended() == asked


def test_without_chunked_prefill_a_prompt_is_computed_in_one_step():
    whole = engine(chunked_prefill=False, max_num_batched_tokens=8192)
    asked = request(prompt=8000, output=1)
    whole.submit(asked, 0.0)
    whole.advance(10.0)
    assert whole.measurements.step_tokens.count == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), seqs=st.integers(1, 12), blocks=st.integers(34, 120), moves=st.integers(1, 120))
def test_nothing_gets_lost_and_counters_never_fall(seed: int, seqs: int, blocks: int, moves: int):
    """Arrivals = finished + running + waiting + aborted + rejected; in the end all blocks are free."""
    random = Random(seed)
    tried = engine(
        max_num_seqs=seqs, num_blocks=blocks, max_model_len=512, max_num_batched_tokens=64, max_num_queued_reqs=20
    )
    measured = tried.measurements
    asked: list[Request] = []
    now, counters = 0.0, (0, 0, 0)
    for _ in range(moves):
        now += random.expovariate(20)
        tried.advance(now)
        action = random.random()
        if action < 0.6:
            asked.append(
                request(random.randint(1, 400), random.randint(1, 100), now, cached_tokens=random.randint(0, 50))
            )
            tried.submit(asked[-1], now)
        elif action < 0.8 and asked:
            tried.abort(random.choice(asked), now)
        elif action < 0.9:
            tried.pause(now)
        else:
            tried.resume(now)
        left = measured.finished_total + measured.client_aborts + measured.rejected_total
        assert measured.submitted == len(asked) == left + tried.running + tried.waiting
        assert 0.0 <= tried.kv_cache_usage <= 1.0
        assert tried.running <= seqs
        new = (measured.generation_tokens, measured.finished_total, measured.preemptions)
        assert all(a <= b for a, b in zip(counters, new, strict=True))
        counters = new
    tried.resume(now)
    tried.advance(now + 10_000)
    assert tried.outstanding == 0
    assert tried.kv_cache_usage == 0.0
    assert measured.ttft.count >= measured.finished_total
    assert measured.e2e.count == measured.finished_total
