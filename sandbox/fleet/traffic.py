"""Who sends what to which replica: open-loop clients, a router to the least busy ready replica, clients' timeouts."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from random import Random

from sandbox.fleet.capacity import draw
from sandbox.fleet.contract import Load
from sandbox.fleet.engine import Request, State
from sandbox.fleet.replica import Replica


@dataclass
class Tally:
    """What became of a load's requests, as its clients see it."""

    offered: int = 0
    finished: int = 0
    timed_out: int = 0
    unavailable: int = 0  # no ready replica, or none that listened
    rejected: int = 0  # 503 from a queue limit
    invalid: int = 0  # 400: too long for max_model_len
    lost: int = 0  # the replica went away

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class Stream:
    """The requests of one load. Its random numbers are its own, so that other loads do not change them."""

    def __init__(self, name: str, load: Load, seed: int, now: float) -> None:
        self.name = name
        self.load = load
        self.tally = Tally()
        self._random = Random(f"{seed}/{name}")
        self._turn = 0
        self.next_at = self._after(now)

    def change(self, load: Load, now: float) -> None:
        """Arrivals have no memory, so the wait for the next may be drawn anew."""
        self.load = load
        self.next_at = self._after(now)

    def _after(self, now: float) -> float:
        rate = self.load.requests_per_second
        return now + self._random.expovariate(rate) if rate > 0 else float("inf")

    def arrive(self) -> Request:
        """The request that arrives at `next_at`, which moves on to the one after."""
        now = self.next_at
        self.next_at = self._after(now)
        self.tally.offered += 1
        request = draw(self.load.mix, self._random, now)
        request.load = self.name
        request.handler = self.load.handler
        return request

    def choose(self, ready: Sequence[Replica]) -> Replica:
        """The one with the fewest requests outstanding; among equals, in turn."""
        self._turn += 1
        size = len(ready)
        return min((ready[(self._turn + i) % size] for i in range(size)), key=lambda replica: replica.outstanding)


class Traffic:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.streams: dict[str, Stream] = {}
        self._deadlines: list[tuple[float, int, Request, Replica]] = []
        self._numbers = count()

    def set_load(self, name: str, load: Load, now: float) -> None:
        if name in self.streams:
            self.streams[name].change(load, now)
        else:
            self.streams[name] = Stream(name, load, self._seed, now)

    def drop_load(self, name: str) -> None:
        self.streams.pop(name, None)

    def advance(self, now: float, ready: Mapping[str, Sequence[Replica]]) -> None:
        """Play all arrivals and timeouts until `now`, in order. `ready`: load name -> who may get its requests."""
        while True:
            stream = min(self.streams.values(), key=lambda s: s.next_at, default=None)
            arrival = stream.next_at if stream else float("inf")
            deadline = self._deadlines[0][0] if self._deadlines else float("inf")
            if min(arrival, deadline) > now:
                return
            if deadline <= arrival:
                self._give_up()
            elif stream is not None:
                self._arrive(stream, ready.get(stream.name, ()))

    def _arrive(self, stream: Stream, ready: Sequence[Replica]) -> None:
        request = stream.arrive()
        at = request.arrived_at
        # A refused connection is tried elsewhere, or a dead replica, which is never busy, would draw all requests.
        listening: list[Replica] = []
        for replica in ready:
            if replica.process is not None:
                replica.process.engine.advance(at)
                listening.append(replica)
        if not listening:
            stream.tally.unavailable += 1
            return
        replica = stream.choose(listening)
        status = replica.submit(request, at)
        if status == 400:
            stream.tally.invalid += 1
        elif status == 503:
            stream.tally.rejected += 1
        else:
            entry = (at + stream.load.timeout_seconds, next(self._numbers), request, replica)
            heapq.heappush(self._deadlines, entry)

    def _give_up(self) -> None:
        at, _, request, replica = heapq.heappop(self._deadlines)
        if not request.done and replica.process is not None:
            replica.process.engine.abort(request, at)

    def ended(self, requests: Sequence[Request]) -> None:
        """Tell what became of requests that a replica had taken."""
        for request in requests:
            stream = self.streams.get(request.load) if request.load else None
            if stream is None:
                continue
            if request.state is State.FINISHED:
                stream.tally.finished += 1
            elif request.state is State.ABORTED:
                stream.tally.timed_out += 1
            elif request.state is State.LOST:
                stream.tally.lost += 1
