"""How often each settings were trained, counted on from one generation to the next."""

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from pso_attn.types import History, Trial


class Trainings:
    """Counts the trainings of a history; asked again, only of what was added since.

    A cache: the counts are those of the history alone.
    """

    def __init__(self) -> None:
        """Count nothing yet."""
        self._generations: tuple[tuple[Trial, ...], ...] = ()
        self._counts = Counter[bytes]()

    def of(self, history: History) -> Mapping[bytes, int]:
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


def identity(params: Mapping[str, Any]) -> bytes:
    """Return what tells flat params apart: 16 bytes, a tenth of a kilobyte in a count."""
    return blake2b(repr(sorted(params.items())).encode(), digest_size=16).digest()
