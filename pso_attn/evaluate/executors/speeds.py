"""How quick each node is, by the chunks that it trained."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from math import exp, log, log2
from statistics import fmean, median
from typing import TypeVar

from pso_attn.evaluate.jobs import Job

K = TypeVar("K")

ALIKE = 1.2  # times as quick: what differs by less counts as equally quick
MEASURED = 3  # chunks, before which a node counts as usual
KEPT = 5  # of a node's latest chunks of a kind
SHORT_S = 1.0  # less says more of messages than of a node
SWEEPS = 50


class Speeds:
    """Speeds of nodes beside each other.

    Small models do less work a second than large ones on the same node, so like is compared with
    like: log(work / second) = the node's + the kind's, where work per candidate, within a factor
    of two, is the kind. Fitted in turns to the medians of each node's chunks of a kind.
    """

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self._rates: dict[tuple[str, int], deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def measured(self, node: str, job: Job, seconds: float) -> None:
        """Take note of how long a node took for a chunk."""
        if seconds >= SHORT_S and job.work > 0:
            kind = round(log2(job.work / len(job.candidates)))
            self._rates[node, kind].append(log(job.work / seconds))

    def of(self, nodes: Iterable[str]) -> dict[str, float]:
        """Return how quick each node is, where 1 is usual; all 1 where they are alike."""
        counts = Counter[str]()
        for (node, _), rates in self._rates.items():
            counts[node] += len(rates)
        speeds = dict.fromkeys(nodes, 0.0)
        cells = [
            (node, kind, median(rates))
            for (node, kind), rates in self._rates.items()
            if node in speeds and counts[node] >= MEASURED
        ]
        for _ in range(SWEEPS):
            kinds = _means((kind, rate - speeds[node]) for node, kind, rate in cells)
            speeds |= _means((node, rate - kinds[kind]) for node, kind, rate in cells)
        if not speeds or max(speeds.values()) - min(speeds.values()) < log(ALIKE):
            return dict.fromkeys(speeds, 1.0)
        return {node: exp(speed) for node, speed in speeds.items()}


def _means(rows: Iterable[tuple[K, float]]) -> dict[K, float]:
    """Return the mean of each key's values."""
    values: dict[K, list[float]] = defaultdict(list)
    for key, value in rows:
        values[key].append(value)
    return {key: fmean(many) for key, many in values.items()}
