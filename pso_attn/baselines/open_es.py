"""OpenAI's evolution strategy: mirrored draws, centred ranks, Adam.

Salimans et al. (2017), Evolution Strategies as a Scalable Alternative to Reinforcement Learning,
arXiv 1703.03864, algorithm 1 with what its section 2.1 adds; Adam as in Kingma & Ba (2015), arXiv
1412.6980, algorithm 1.
"""

from dataclasses import dataclass, replace

import numpy as np

from pso_attn.baselines.options import Baseline
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.ranking import merit, shared_ranks
from pso_attn.swarm.slots import slots
from pso_attn.swarm.wide import origin, storable
from pso_attn.types import Array, History, Proposal, Trial

SIGMA = 0.05  # of the range; a third of a standard deviation of weights with bounds of three
RATE = 0.0167  # Adam's step, of the range
DECAYS = (0.9, 0.999)  # of Adam's two averages
TINY = 1e-8


@dataclass(frozen=True, eq=False)
class _Centre:
    """Where draws are made around: position and Adam's averages, (D,), and what is untold."""

    mean: Array
    first: Array
    second: Array
    updates: int = 0
    pending: tuple[Trial, ...] = ()


class OpenStrategy(Baseline):
    """OpenAI's evolution strategy over numbers; labels are drawn at random.

    A population is the least multiple of the batch that has as many trials as the swarm and is
    even. Its gradient is taken from the positions that were trained, so that nothing has to be
    drawn again; failures rank last.
    """

    name = "openes"
    _fold: Fold[_Centre] | None = None

    @property
    def _batches(self) -> int:
        """How many batches make a population."""
        batches = -(-max(2, self.particles) // self.batch)
        return batches + batches * self.batch % 2

    def propose(self, space: Space, history: History) -> Proposal:
        """Return the next draws around the centre after that history."""
        generation = len(history)
        self._fold = folded(self._fold, space, history, self._first, self._after)
        first = generation % self._batches * self.batch
        drawn = []
        for member in range(first, first + self.batch):
            rng = generator(self.seed, generation // self._batches, member // 2, "openes")
            deviates = rng.standard_normal(space.dimension)
            drawn.append(deviates if member % 2 else -deviates)
        positions = self._fold.state.mean + SIGMA * np.stack(drawn)
        if space.categorical.any():
            rng = generator(self.seed, generation, "labels")
            positions = np.where(space.categorical, rng.random(positions.shape), positions)
        placed = space.with_starts(positions, generation * self.batch)
        return Proposal(storable(space, placed), slots(generation, self.batch, self.particles))

    def _first(self, space: Space) -> _Centre:
        nothing = np.zeros(space.dimension)
        return _Centre(origin(space), nothing, nothing)

    def _after(self, space: Space, history: History, centre: _Centre, generation: int) -> _Centre:
        """Return the centre after one more generation: a step once its population is whole."""
        pending = (*centre.pending, *history.generations[generation])
        if len(pending) < self._batches * self.batch:
            return replace(centre, pending=pending)
        ranks = shared_ranks([merit(history, trial) for trial in pending])
        utility = (ranks.mean() - ranks) / (len(ranks) - 1)  # within -.5 and .5
        positions = np.stack([trial.position for trial in pending])
        gradient = -utility @ (positions - centre.mean) / (len(pending) * SIGMA**2)
        updates = centre.updates + 1
        first = DECAYS[0] * centre.first + (1.0 - DECAYS[0]) * gradient
        second = DECAYS[1] * centre.second + (1.0 - DECAYS[1]) * gradient**2
        root = np.sqrt(second / (1.0 - DECAYS[1] ** updates))
        step = RATE * first / (1.0 - DECAYS[0] ** updates) / (root + TINY)
        return _Centre(np.clip(centre.mean - step, 0.0, 1.0), first, second, updates)
