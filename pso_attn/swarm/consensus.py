"""The consensus swarm: weights go on from the mean of the personal bests that a particle sees.

The mover of hybrids, whose particles descend by gradients between moves. Models that descended
from one place, each on its own data order, lie in one valley, and what is between them is no worse
(Frankle et al. 2020, arXiv 1912.05671); their mean has less of each order's noise (Izmailov et al.
2018, arXiv 1803.05407; Wortsman et al. 2022, arXiv 2203.05482). A textbook velocity leads past
both bests, and random factors of each coordinate's own leave the line between two models.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pso_attn.space import Space
from pso_attn.swarm.classic import ClassicSwarm
from pso_attn.swarm.family import Mover, Sight, Turn
from pso_attn.swarm.options import ClassicOptions, TopologyName
from pso_attn.swarm.state import Counts
from pso_attn.swarm.wide import origin
from pso_attn.types import Array


@dataclass(frozen=True)
class ConsensusOptions(ClassicOptions):
    """Options of `pso-consensus`: those of `pso-classic`, where all see all and none restarts."""

    topology: TopologyName = "star"
    stagnation: int = 0


class ConsensusSwarm(ClassicSwarm):
    """Consensus of weights, textbook moves of settings.

    All weights begin at the space's start. Then x' = the mean of the personal bests in sight, the
    particle's own among them: the fully informed swarm (Mendes, Kennedy & Neves 2004, IEEE
    Transactions on Evolutionary Computation 8(3), eqs. 4 and 5) with equal weights, without
    inertia and without chance. With gradient steps between moves this is local SGD (Stich 2019,
    arXiv 1805.09767) that averages what validation kept. Knobs move as in `ClassicSwarm`; a space
    without weights is moved as there.

    options: see `ConsensusOptions`; ConfigurationError as for `ClassicSwarm`.
    """

    name = "pso-consensus"
    kind = ConsensusOptions
    lists_pairs = True

    def _design(self, space: Space) -> Array:
        design, knobs = super()._design(space), len(space.coordinates)
        design[:, knobs:] = origin(space)[knobs:]
        return design

    def _mover(self, turn: Turn[Sight]) -> Mover:
        textbook, knobs = super()._mover(turn), len(turn.space.coordinates)
        weights, has_best = turn.state.best_position[:, knobs:], turn.state.has_best
        seen = [np.unique(row[has_best[row]]) for row in self._links(turn)]
        known: dict[bytes, Array] = {}  # the last mean: under a star it is everybody's

        def mean(particle: int) -> Array:
            members = seen[particle]
            name = members.tobytes()
            if name not in known:
                known.clear()
                known[name] = weights[members].mean(axis=0)
            return known[name]

        def moved(movers: Counts, rngs: Iterable[np.random.Generator]) -> Array:
            placed = textbook(movers, rngs)
            for row, particle in enumerate(movers):
                if len(seen[particle]):
                    placed[row, knobs:] = mean(particle)
            return placed

        return moved
