"""How often each settings were trained, counted on from one generation to the next."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

from pso_attn.types import History, Scalar, Trial

Identity = Hashable


class Trainings:
    """Counts the trainings of a history; asked again, only of what was added since.

    A cache: the counts are those of the history alone.
    """

    def __init__(self) -> None:
        """Count nothing yet."""
        self._generations: tuple[tuple[Trial, ...], ...] = ()
        self._counts = Counter[Identity]()

    def of(self, history: History) -> Mapping[Identity, int]:
        """Return how many trainings settings had, by `identity`; 0 where they had none."""
        known = len(self._generations)
        if self._generations != history.generations[:known]:  # the same tuples, of one run
            self._counts, known = Counter(), 0
        for generation in history.generations[known:]:
            for trial in generation:
                seeds = len(trial.candidate.seeds)
                self._counts[identity(trial.candidate.params)] += seeds
        self._generations = history.generations
        return self._counts


def identity(params: Mapping[str, Scalar]) -> Identity:
    """Return what tells flat params apart, whatever their order; it refers to their values."""
    names, values = _order(tuple(params))
    return names, values(params)


@lru_cache
def _order(names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Any], Any]]:
    """Return the names in order, and what takes their values from params in that order."""
    ordered = tuple(sorted(names))
    return ordered, itemgetter(*ordered) if ordered else lambda _: ()
