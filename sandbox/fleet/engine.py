"""One vLLM engine as a scheduler of simulated steps: who waits, who runs, whose KV blocks are taken away.

Pure: there is no clock and no thread in here. `advance(now)` plays all steps that end by `now`; the same calls give the
same result. The scheduler's rules are vLLM V1's: running requests first, then the queue in order of arrival, within a
token budget a step and a number of sequences; prompts in chunks; preemption of the newest by recomputation.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from sandbox.fleet.measurements import EngineMeasurements


@dataclass(frozen=True, slots=True)
class Limits:
    """What the arguments and the GPU's memory make of the scheduler."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    num_blocks: int
    chunked_prefill: bool = True
    prefix_caching: bool = True
    long_prefill_token_threshold: int = 0  # 0: no cap on one prompt's chunk
    max_num_queued_reqs: int | None = None  # None: the queue is unbounded, which is vLLM's default
    max_num_queued_tokens: int | None = None

    @property
    def usable_blocks(self) -> int:
        """One block is vLLM's null block."""
        return self.num_blocks - 1

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.block_size


@dataclass(frozen=True, slots=True)
class StepCost:
    """How long one step takes: the longer of what the host needs and what the GPU needs, as they overlap."""

    host_seconds: float
    weights_seconds: float  # reading the weights once
    sequence_seconds: float  # per decoding sequence
    prefill_token_seconds: float
    context_token_seconds: float  # reading one token of KV cache

    def gpu_seconds(self, decoding: int, prefill_tokens: int, context_tokens: int) -> float:
        return (
            self.weights_seconds
            + self.sequence_seconds * decoding
            + self.prefill_token_seconds * prefill_tokens
            + self.context_token_seconds * context_tokens
        )


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"  # its client went away
    REJECTED = "rejected"  # by a queue limit
    LOST = "lost"  # its server went away


@dataclass(slots=True, eq=False)
class Request:
    """`cached_tokens` of the prompt are in the prefix cache: they take blocks, but nothing is computed for them."""

    prompt_tokens: int
    output_tokens: int
    arrived_at: float
    cached_tokens: int = 0
    max_tokens: int | None = None
    load: str | None = None  # the offered load it belongs to; None: a real HTTP request
    handler: str = "/v1/completions"
    state: State = State.WAITING
    rejected_because: str | None = None
    scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    ended_at: float | None = None
    generated: int = 0
    computed: int = 0  # tokens whose keys and values are in the cache
    hit_tokens: int = 0  # of them, taken from the prefix cache at the first admission
    blocks: int = 0
    preemptions: int = 0

    @property
    def done(self) -> bool:
        return self.state not in (State.WAITING, State.RUNNING)

    @property
    def finish_reason(self) -> str:
        return "length" if self.max_tokens is not None and self.generated >= self.max_tokens else "stop"


class Engine:
    def __init__(self, limits: Limits, cost: StepCost, measurements: EngineMeasurements) -> None:
        self.limits = limits
        self.cost = cost
        self.measurements = measurements
        self.slowdown = 1.0  # every step takes this many times as long, from the next step on
        self._queue: deque[Request] = deque()  # may hold aborted ones, which are dropped when they reach the front
        self._waiting = 0
        self._waiting_tokens = 0
        self._running: list[Request] = []
        self._free_blocks = limits.usable_blocks
        self._step: list[tuple[Request, int]] = []  # (request, tokens) of the step in progress
        self._step_ends_at: float | None = None
        self._step_gpu_seconds = 0.0
        self._paused_at: float | None = None
        self._ended: list[Request] = []

    # --- what others may know

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def outstanding(self) -> int:
        return self._waiting + len(self._running)

    @property
    def kv_cache_usage(self) -> float:
        return 1.0 - self._free_blocks / self.limits.usable_blocks

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    def take_ended(self) -> list[Request]:
        """The requests that have ended since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    # --- what others may do; `now` never goes back

    def submit(self, request: Request, now: float) -> bool:
        """False if a queue limit rejects it. Its tokens must fit into max_model_len, which the caller has checked."""
        self.advance(now)
        self.measurements.submitted += 1
        if reason := self._full():
            request.state, request.rejected_because, request.ended_at = State.REJECTED, reason, now
            self.measurements.rejections[reason] += 1
            return False
        self._queue.append(request)
        self._waiting += 1
        self._waiting_tokens += request.prompt_tokens
        if self._step_ends_at is None and self._paused_at is None:
            self._begin_step(now)
        return True

    def _full(self) -> str | None:
        limits = self.limits
        if limits.max_num_queued_reqs is not None and self._waiting >= limits.max_num_queued_reqs:
            return "max_num_queued_reqs"
        if limits.max_num_queued_tokens is not None and self._waiting_tokens >= limits.max_num_queued_tokens:
            return "max_num_queued_tokens"
        return None

    def abort(self, request: Request, now: float) -> None:
        """Its client has gone. Nothing happens if it has ended by `now`."""
        self.advance(now)
        if request.done:
            return
        self._leave(request)
        self._end(request, State.ABORTED, now)
        self.measurements.client_aborts += 1
        if self._paused_at is None:
            self._show_gauges()

    def advance(self, now: float) -> None:
        if self._paused_at is not None:
            return
        while self._step_ends_at is not None and self._step_ends_at <= now:
            end = self._step_ends_at
            self._finish_step(end)
            self._begin_step(end)

    def pause(self, now: float) -> None:
        """No step makes progress until `resume`: the engine hangs, or sleeps."""
        self.advance(now)
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        if self._paused_at is None:
            return
        stood_still = now - self._paused_at
        self._paused_at = None
        if self._step_ends_at is not None:
            self._step_ends_at += stood_still
        elif self._waiting:
            self._begin_step(now)

    def stop(self, now: float) -> None:
        """The process ends: whatever waits or runs is lost."""
        self.advance(now)
        for request in [*self._running, *self._queue]:
            if not request.done:
                self._end(request, State.LOST, now)
        self._queue.clear()
        self._running.clear()
        self._waiting = self._waiting_tokens = 0
        self._step_ends_at = None

    # --- a step

    def _begin_step(self, now: float) -> None:
        step = self._schedule(now)
        if not step and self._waiting:
            step = self._schedule(now)  # a request that preempted itself comes back in the next round
        if not step:
            self._step_ends_at = None
            self._show_gauges()
            return
        decoding = prefill_tokens = context_tokens = 0
        for request, tokens in step:
            context_tokens += request.computed
            if tokens == 1 and request.generated:
                decoding += 1
            else:
                prefill_tokens += tokens
        gpu = self.cost.gpu_seconds(decoding, prefill_tokens, context_tokens) * self.slowdown
        self._step = step
        self._step_gpu_seconds = gpu
        self._step_ends_at = now + max(gpu, self.cost.host_seconds * self.slowdown)

    def _schedule(self, now: float) -> list[tuple[Request, int]]:
        step: list[tuple[Request, int]] = []
        budget = self.limits.max_num_batched_tokens
        block_size = self.limits.block_size
        preempted = False
        running = self._running
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            tokens = request.prompt_tokens + request.generated - request.computed
            if tokens > 1:
                tokens = self._chunk(tokens, budget)
            need = -(-(request.computed + tokens) // block_size) - request.blocks
            while need > self._free_blocks:
                preempted = True
                victim = running[-1]
                self._preempt(victim)
                if victim is request:
                    break
            if request.state is not State.RUNNING:
                break
            self._free_blocks -= need
            request.blocks += need
            step.append((request, tokens))
            budget -= tokens
            index += 1
        if not preempted:
            self._admit(step, budget, now)
        return step

    def _admit(self, step: list[tuple[Request, int]], budget: int, now: float) -> None:
        limits = self.limits
        while self._waiting and budget > 0 and len(self._running) < limits.max_num_seqs:
            request = self._queue[0]
            if request.state is not State.WAITING:
                self._queue.popleft()
                continue
            total = request.prompt_tokens + request.generated
            if -(-total // limits.block_size) > self._free_blocks:
                return  # first come, first served: nobody overtakes the one at the front
            # The last token of a prompt is always computed, or there would be nothing to sample from.
            hits = min(request.cached_tokens, request.prompt_tokens - 1) if limits.prefix_caching else 0
            tokens = total - hits
            if not limits.chunked_prefill and tokens > budget and step:
                return
            if limits.chunked_prefill:
                tokens = self._chunk(tokens, budget)
            self._queue.popleft()
            self._waiting -= 1
            self._waiting_tokens -= request.prompt_tokens
            self._start(request, hits, tokens, now)
            step.append((request, tokens))
            budget -= tokens

    def _start(self, request: Request, hits: int, tokens: int, now: float) -> None:
        request.state = State.RUNNING
        request.computed = hits
        request.blocks = -(-(hits + tokens) // self.limits.block_size)
        self._free_blocks -= request.blocks
        self._running.append(request)
        if request.scheduled_at is None:
            request.scheduled_at = now
            request.hit_tokens = hits
            if self.limits.prefix_caching:
                self.measurements.prefix_queries += request.prompt_tokens
                self.measurements.prefix_hits += hits

    def _chunk(self, tokens: int, budget: int) -> int:
        if not self.limits.chunked_prefill:
            return tokens
        threshold = self.limits.long_prefill_token_threshold
        return min(tokens, budget, threshold) if threshold else min(tokens, budget)

    def _preempt(self, request: Request) -> None:
        self._leave(request)
        request.state = State.WAITING
        request.computed = 0
        request.preemptions += 1
        self.measurements.preemptions += 1
        self._queue.appendleft(request)
        self._waiting += 1
        self._waiting_tokens += request.prompt_tokens

    def _finish_step(self, end: float) -> None:
        measured = self.measurements
        measured.gpu_busy_seconds += self._step_gpu_seconds
        produced = prompt_tokens = common_times = 0
        common_gap = 0.0
        for request, tokens in self._step:
            if request.state is not State.RUNNING:
                continue  # aborted while the step ran
            request.computed += tokens
            if request.computed < request.prompt_tokens + request.generated:
                continue  # more of its prompt is to come
            produced += 1
            if request.last_token_at is None:
                prompt_tokens += self._first_token(request, end)
            else:
                # Nearly all of a batch have the same gap: one observation of many, not many of one.
                gap = end - request.last_token_at
                if gap != common_gap:
                    measured.inter_token.observe(common_gap, common_times)
                    common_gap, common_times = gap, 0
                common_times += 1
            request.last_token_at = end
            request.generated += 1
            if request.generated >= request.output_tokens:
                self._finish(request, end)
        measured.inter_token.observe(common_gap, common_times)
        measured.generation_tokens += produced
        measured.step_tokens.observe(produced + prompt_tokens)
        self._show_gauges()

    def _first_token(self, request: Request, end: float) -> int:
        """Returns how many prompt tokens were computed for it."""
        request.first_token_at = end
        self.measurements.ttft.observe(end - request.arrived_at)
        self.measurements.prompt_tokens += request.prompt_tokens
        self.measurements.cached_prompt_tokens += request.hit_tokens
        return request.prompt_tokens - request.hit_tokens

    def _finish(self, request: Request, end: float) -> None:
        self._leave(request)
        self._end(request, State.FINISHED, end)
        measured = self.measurements
        measured.finished[request.finish_reason] += 1
        scheduled, first = request.scheduled_at, request.first_token_at
        assert scheduled is not None and first is not None
        decode = end - first
        measured.e2e.observe(end - request.arrived_at)
        measured.queue.observe(scheduled - request.arrived_at)
        measured.inference.observe(end - scheduled)
        measured.prefill.observe(first - scheduled)
        measured.decode.observe(decode)
        measured.tpot.observe(decode / (request.generated - 1) if request.generated > 1 else 0.0)
        measured.request_prompt_tokens.observe(request.prompt_tokens)
        measured.request_generation_tokens.observe(request.generated)
        measured.request_max_generation_tokens.observe(request.generated)
        measured.request_max_tokens.observe(request.max_tokens or self.limits.max_model_len - request.prompt_tokens)
        measured.request_computed_tokens.observe(request.prompt_tokens - request.hit_tokens)
        measured.request_choices.observe(1)
        measured.request_preemptions.observe(request.preemptions)

    def _leave(self, request: Request) -> None:
        """Take it out of the batch (with its blocks) or out of the count of the queue."""
        if request.state is State.RUNNING:
            self._running.remove(request)
            self._free_blocks += request.blocks
            request.blocks = 0
        else:
            self._waiting -= 1
            self._waiting_tokens -= request.prompt_tokens

    def _end(self, request: Request, state: State, now: float) -> None:
        request.state = state
        request.ended_at = now
        self._ended.append(request)

    def _show_gauges(self) -> None:
        self.measurements.running = len(self._running)
        self.measurements.waiting = self._waiting
        self.measurements.kv_cache_usage = self.kv_cache_usage
