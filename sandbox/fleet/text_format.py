"""Prometheus' text format as Python's client library writes it: labels sorted, `_created` gauges, floats."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from sandbox.fleet.measurements import Histogram


class Page:
    """Collects samples. `labels` are those of every series that is not `bare`; faults may hide or rename families."""

    def __init__(self, labels: Mapping[str, str], created: float, hidden: Iterable[str], renamed: Mapping[str, str]):
        self._labels = labels
        self._created = created
        self._hidden = tuple(hidden)
        self._renamed = renamed
        self._lines: list[str] = []

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def gauge(self, name: str, about: str, *samples: tuple[Mapping[str, str], float], bare: bool = False) -> None:
        if shown := self._family(name, "gauge", about):
            self._samples(shown, samples, bare)

    def counter(
        self,
        name: str,
        about: str,
        *samples: tuple[Mapping[str, str], float],
        bare: bool = False,
        created: float | None = None,
        dated: bool = True,
    ) -> None:
        """`name` without `_total`; if `dated`, with it goes a gauge that says since when it counts."""
        if shown := self._family(f"{name}_total", "counter", about):
            self._samples(shown, samples, bare)
            since = self._created if created is None else created
            if dated:
                base = shown.removesuffix("_total")
                self._created_gauge(base, about, [labels for labels, _ in samples], since, bare)

    def histogram(
        self,
        name: str,
        about: str,
        *histograms: tuple[Mapping[str, str], Histogram],
        bare: bool = False,
        created: float | None = None,
    ) -> None:
        if shown := self._family(name, "histogram", about):
            for more, histogram in histograms:
                self._buckets(shown, more, histogram, bare)
            since = self._created if created is None else created
            self._created_gauge(shown, about, [labels for labels, _ in histograms], since, bare)

    def summary(self, name: str, about: str, created: float, *samples: tuple[Mapping[str, str], int, float]) -> None:
        if shown := self._family(name, "summary", about):
            for labels, count, total in samples:
                self._samples(f"{shown}_count", [(labels, count)], bare=True)
                self._samples(f"{shown}_sum", [(labels, total)], bare=True)
            self._created_gauge(shown, about, [labels for labels, _, _ in samples], created, bare=True)

    def _buckets(self, name: str, more: Mapping[str, str], histogram: Histogram, bare: bool) -> None:
        before, after = self._around_le(more, bare)
        below = 0
        for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
            below += count
            self._lines.append(f'{name}_bucket{{{before}le="{bound}"{after}}} {below}.0')
        self._lines.append(f'{name}_bucket{{{before}le="+Inf"{after}}} {histogram.count}.0')
        self._samples(f"{name}_count", [(more, histogram.count)], bare)
        self._samples(f"{name}_sum", [(more, histogram.sum)], bare)

    def _around_le(self, more: Mapping[str, str], bare: bool) -> tuple[str, str]:
        """Labels are sorted, so `le` stands between others: the text before and after it."""
        labels = sorted({**({} if bare else self._labels), **more}.items())
        before = "".join(f'{k}="{_escaped(v)}",' for k, v in labels if k < "le")
        after = "".join(f',{k}="{_escaped(v)}"' for k, v in labels if k > "le")
        return before, after

    def _samples(self, name: str, samples: Iterable[tuple[Mapping[str, str], float]], bare: bool) -> None:
        for more, value in samples:
            labels = sorted({**({} if bare else self._labels), **more}.items())
            inner = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels)
            self._lines.append(f"{name}{{{inner}}} {float(value)}" if inner else f"{name} {float(value)}")

    def _created_gauge(
        self, base: str, about: str, labels: Sequence[Mapping[str, str]], since: float, bare: bool
    ) -> None:
        if not labels:
            return
        self._lines += [f"# HELP {base}_created {about}", f"# TYPE {base}_created gauge"]
        self._samples(f"{base}_created", [(more, since) for more in labels], bare)

    def _family(self, name: str, kind: str, about: str) -> str | None:
        """The name under which to show it; None if a fault hides it."""
        if any(fnmatchcase(name, pattern) for pattern in self._hidden):
            return None
        shown = self._renamed.get(name, name)
        self._lines += [f"# HELP {shown} {about}", f"# TYPE {shown} {kind}"]
        return shown


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
