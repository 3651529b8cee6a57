"""Which examples each step of each training sees: a permutation an epoch, keyed by the seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pso_attn.evaluate.graphs import Step, at
from pso_attn.seeding import generator

BYTES = 4  # of an example's number, of which a search of many steps holds many


class DataOrder:
    """The order of N trainings; those of equal seeds share one."""

    def __init__(
        self,
        seeds: np.ndarray[Any, np.dtype[np.int64]],
        examples: int,
        steps: int,
        batch: int,
        device: torch.device,
    ) -> None:
        """Draw `steps` batches of numbers below `examples` for each of seeds (N,)."""
        unique, inverse = np.unique(seeds, return_inverse=True)
        drawn = np.empty((len(unique), steps * batch), dtype=np.int32)
        for row, seed in zip(drawn, unique, strict=True):
            _draw(row, int(seed), examples)
        table = torch.from_numpy(drawn).to(device).view(-1, steps, batch)
        self._table = table.transpose(0, 1)  # (steps, distinct seeds, B)
        self._rows = torch.from_numpy(inverse).to(device) if len(unique) > 1 else None

    def at(self, step: Step) -> Tensor:
        """Return the examples of a step: int32 (N, B), or (1, B) where all have the same."""
        chosen = at(self._table, step)
        return chosen if self._rows is None else chosen[self._rows]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these trainings alone."""
        if self._rows is not None:
            self._rows = self._rows[rows]


def _draw(row: np.ndarray[Any, np.dtype[np.int32]], seed: int, examples: int) -> None:
    """Fill a row with numbers of examples, epoch after epoch."""
    for epoch, first in enumerate(range(0, len(row), examples)):
        permutation = generator(seed, epoch, "order").permutation(examples)
        row[first : first + examples] = permutation[: len(row) - first]
