"""Separable CMA-ES by the library `cmaes`, its distribution replayed from history.

Ros & Hansen (2008), A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pso_attn.baselines.cma_es import population, told
from pso_attn.baselines.options import Baseline
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.ranking import Merit, merit
from pso_attn.swarm.slots import slots
from pso_attn.swarm.wide import origin, storable
from pso_attn.types import Array, History, Proposal

Distribution = Any  # cmaes.SepCMA

SIGMA = 0.05  # of the range; from a sixth, as in Optuna, weights soon lie on all faces
FEWEST = 2  # dimensions of cmaes' distribution


@dataclass(frozen=True, eq=False)
class _Search:
    """The distribution, and what it is yet to be told: positions (D,) with their merits."""

    distribution: Distribution
    pending: tuple[tuple[Array, Merit], ...] = ()


class SeparableCovarianceAdaptation(Baseline):
    """Separable CMA-ES over numbers; labels are drawn at random.

    The population is cmaes' own, rounded to whole batches. The distribution is told the positions
    that were trained, clipped where they left the range; ranked by fidelity, then loss, failures
    last. A population of failures only teaches nothing.
    """

    name = "sepcmaes"
    _fold: Fold[_Search] | None = None

    def propose(self, space: Space, history: History) -> Proposal:
        """Return draws from the distribution after that history."""
        generation = len(history)
        self._fold = folded(self._fold, space, history, self._first, self._after)
        distribution = self._fold.state.distribution
        rng = generator(self.seed, generation, "sepcmaes")
        distribution.reseed_rng(int(rng.integers(2**31)))
        positions = rng.random((self.batch, space.dimension))  # labels stay where this puts them
        for position in positions:
            position[~space.categorical] = distribution.ask()[: (~space.categorical).sum()]
        placed = space.with_starts(positions, generation * self.batch)
        return Proposal(storable(space, placed), slots(generation, self.batch, self.particles))

    def _first(self, space: Space) -> _Search:
        from cmaes import SepCMA  # slow: it loads scipy's distributions

        mean = _padded(origin(space)[~space.categorical])
        size = population(space.dimension, self.batch)
        return _Search(SepCMA(mean=mean, sigma=SIGMA, population_size=size))

    def _after(self, space: Space, history: History, search: _Search, generation: int) -> _Search:
        """Return the search after one more generation."""
        results = [
            (_padded(trial.position[~space.categorical]), merit(history, trial))
            for trial in history.generations[generation]
        ]
        pending = (*search.pending, *results)
        if len(pending) < search.distribution.population_size:
            return _Search(search.distribution, pending)
        return _Search(told(search.distribution, pending))


def _padded(numbers: Array) -> Array:
    """Return the numbers with as many coordinates that mean nothing as cmaes needs to work."""
    return np.concatenate([numbers, np.full(max(0, FEWEST - len(numbers)), 0.5)])
