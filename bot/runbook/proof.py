"""Each query of the runbooks shown to a Prometheus: it alone knows what it accepts. What could not be asked is not
proven, and said to be so."""

from collections.abc import Callable, Sequence

from bot.ports import SourceError

# Why Prometheus refuses a query, in its own words; None: it accepts it. SourceError: it could not be asked.
Refusal = Callable[[str], str | None]


class Proof:
    """A `checking.PromQL` that remembers how much it proved."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._seen: dict[str, str | None] = {}
        self.stopped: SourceError | None = None

    @property
    def proven(self) -> int:
        return len(self._seen)

    def __call__(self, query: str) -> str | None:
        if self.stopped is None and query not in self._seen:
            try:
                self._seen[query] = self._refusal(query)
            except SourceError as error:
                self.stopped = error  # the next query would wait as long, for the same answer
        return self._seen.get(query)


def told(proof: Proof | None, cases: int | None) -> Sequence[str]:
    """What was looked at besides the files themselves, and what was not."""
    if proof is None:
        queries = "PromQL was not proven: name a Prometheus with --prometheus, or VLLM_ONCALL_PROMETHEUS__URL."
    elif proof.stopped is not None:
        queries = f"PromQL was not proven after {proof.proven} queries. {proof.stopped}"
    else:
        queries = f"{proof.proven} quer{'y' if proof.proven == 1 else 'ies'} shown to Prometheus."
    one = "" if cases == 1 else "s"
    verdicts = "No case was run: name their folder with --cases." if cases is None else f"{cases} case{one} run."
    return queries, verdicts
