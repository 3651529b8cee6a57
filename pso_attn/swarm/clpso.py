"""Comprehensive learning: each coordinate of a particle learns from some particle's best.

Liang, Qin, Suganthan & Baskar (2006), "Comprehensive learning particle swarm optimizer for
global optimization of multimodal functions", IEEE Trans. Evolutionary Computation 10(3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.seeding import generator
from pso_attn.swarm.bounds import limit, reflect
from pso_attn.swarm.family import FoldedSwarm, Mover, Turn, one_by_one
from pso_attn.swarm.moves import Weights, copied_labels, inertial
from pso_attn.swarm.options import SwarmOptions, read_known
from pso_attn.swarm.slots import slots
from pso_attn.swarm.state import Counts
from pso_attn.types import Array

Exemplars = NDArray[np.int64]  # (P, D): whose best a coordinate learns from; -1: none chosen yet


@dataclass(frozen=True)
class ClpsoOptions(SwarmOptions):
    """Options of `pso-clpso`, with the paper's values.

    pull: its c. refreshing_gap: its m, moves without improvement before a particle chooses anew
    whom it learns from. velocity_limit: fraction of a knob's range that one move may cross.
    """

    pull: float = 1.49445
    refreshing_gap: int = 7
    velocity_limit: float = 0.2


class ClpsoSwarm(FoldedSwarm[Exemplars]):
    """Comprehensive learning swarm: each knob learns from some particle's best.

    v' = w v + c r (p_f - x) with the exemplar f of each coordinate, w falling from .9 to .4 over
    the budget that the search began with. A label is copied from the position or the exemplar's
    best, with chances as w : c. The paper lets particles fly out of their range untrained; here
    each slot is a training, so they are mirrored.

    options: see `ClpsoOptions`; ConfigurationError as for `ClassicSwarm`.
    """

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Check the options."""
        self.options = read_known("pso-clpso", ClpsoOptions, options)
        super().__init__(seed, particles, batch, generations, self.options)

    def _first_memory(self, dimension: int) -> Exemplars:
        return np.full((self.particles, dimension), -1)

    def _recalled(self, before: Turn[Exemplars]) -> Exemplars:
        """Return the exemplars, chosen anew for those who move now and learn nothing any more."""
        state, exemplars = before.state, before.memory.copy()
        ranks = state.ranks()
        for i in slots(before.generation, self.batch, self.particles):
            idle = state.idle[i]
            refreshes = idle > 0 and idle % self.options.refreshing_gap == 0
            if state.evaluated[i] and (refreshes or (exemplars[i] < 0).any()):
                rng = generator(self.seed, before.generation, i, "exemplars")
                exemplars[i] = chosen(i, ranks, exemplars.shape[1], rng)
        return exemplars

    def _leaders(self, turn: Turn[Exemplars]) -> Counts:
        """Return the swarm's best for every particle: it alone never restarts."""
        return np.full(self.particles, np.argmin(turn.state.ranks()))

    def _mover(self, turn: Turn[Exemplars]) -> Mover:
        space, state, options = turn.space, turn.state, self.options
        inertia = inertial(0.0, 0.0, turn.generation, self.generations).inertia
        bests, columns = state.attractors(), np.arange(space.dimension)
        levels = np.maximum(space.levels, 1)

        def moved(i: int, rng: np.random.Generator) -> Array:
            x, others = state.position[i], turn.memory[i]
            exemplar = bests[np.where(state.has_best[others], others, i), columns]
            pulled = inertia * state.velocity[i] + options.pull * rng.random(x.size) * (
                exemplar - x
            )
            numbers = reflect(x + limit(pulled, options.velocity_limit))
            chances = Weights(inertia, 0.0, options.pull)
            draws = rng.random((3, x.size))
            labels = copied_labels(x, x, exemplar, levels, chances, options.jump_rate, draws)
            return np.where(space.categorical, labels, numbers)

        return one_by_one(moved)


def chosen(i: int, ranks: Array, dimension: int, rng: np.random.Generator) -> Exemplars:
    """Return whom each coordinate of particle i learns from, (D,).

    With chance Pc, from the better of two others drawn at random; else from its own best. Where
    that is its own best throughout, one coordinate learns from some other all the same.
    """
    others = np.delete(np.arange(len(ranks)), i)
    first = rng.integers(len(others), size=dimension)
    further = rng.integers(1, max(len(others), 2), size=dimension)  # so the second is another
    one, two = others[first], others[(first + further) % len(others)]
    better = np.where(ranks[one] <= ranks[two], one, two)
    learns = rng.random(dimension) < learning_probability(len(ranks))[i]
    exemplars = np.where(learns, better, i)
    if not learns.any():
        exemplars[rng.integers(dimension)] = rng.choice(others)
    return exemplars


def learning_probability(particles: int) -> Array:
    """Return Pc, (P,): the chance that a coordinate learns from others, from .05 to .5.

    Pc_i = .05 + .45 (exp(10 (i - 1) / (P - 1)) - 1) / (exp(10) - 1) for i = 1 … P.
    """
    share = np.arange(particles) / (particles - 1)
    return np.asarray(0.05 + 0.45 * np.expm1(10.0 * share) / np.expm1(10.0))
