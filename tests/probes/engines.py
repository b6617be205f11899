"""Pages that Prometheus scraped of a service's pods, for tests of what is told from progress. Shared."""

from datetime import timedelta

from bot.ports import Answer, Sample
from tests.fakes import NOW, series

EVERY_SECONDS = 30
SCRAPES = 11
NAMES = ("vllm:iteration_tokens_total_count", "vllm:num_requests_running", "vllm:num_requests_waiting")


def rows(kind: str) -> "list[tuple[float, float, float]]":
    """(steps, running, waiting) at each scrape."""
    match kind:
        case "working":
            return [(100 * n, 8, 0) for n in range(SCRAPES)]
        case "saturated":
            return [(100 * n, 32, 20) for n in range(SCRAPES)]
        case "idle":
            return [(500, 0, 0)] * SCRAPES
        case "hung":
            return [(100, 4, 0)] + [(200, 4, n) for n in range(SCRAPES - 1)]
        case "stalling":
            return [(100 * n, 4, 0) for n in range(SCRAPES - 3)] + [(100 * SCRAPES, 4, 0)] * 3
    raise ValueError(kind)


def show(sources, cluster, **kinds: str) -> None:
    """Pod numbers (`p0=`) to what their engine did over the last five minutes; the others export nothing."""
    values, times, awake, up = [], [], [], []
    for name, kind in kinds.items():
        pod = cluster.pods[int(name.removeprefix("p"))]
        labels = {"namespace": pod.namespace, "pod": pod.name, "engine": "0"}
        asleep = kind.startswith("asleep")
        told = rows("hung" if kind == "asleep_with_work" else "idle" if asleep else kind)
        for number, metric in enumerate(NAMES):
            points = [row[number] for row in told]
            values.append(series(*points, step_seconds=EVERY_SECONDS, **labels, __name__=metric))
        at = [(NOW - timedelta(seconds=EVERY_SECONDS * n)).timestamp() for n in reversed(range(SCRAPES))]
        times.append(series(*at, step_seconds=EVERY_SECONDS, **labels))
        awake.append(Sample(labels, 0.0 if asleep else 1.0, NOW))
        up.append(Sample({"namespace": pod.namespace, "pod": pod.name}, 1.0, NOW))
    sources.metrics.graphs = {"__name__=~": tuple(values), "timestamp(vllm": tuple(times)}
    sources.metrics.answers["engine_sleep_state"] = Answer(tuple(awake))
    sources.metrics.answers["(up{"] = Answer(tuple(up))
