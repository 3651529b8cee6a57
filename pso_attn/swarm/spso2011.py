"""Standard PSO 2011: a particle goes to a sphere around the centre of gravity of what it knows.

Clerc (2012), "Standard Particle Swarm Optimisation", HAL hal-00764996, and his program of 2011.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pso_attn.swarm.family import Mover, NeighbourlySwarm, Sight, Turn, one_by_one
from pso_attn.swarm.moves import Weights, copied_labels
from pso_attn.swarm.options import TopologyName, TopologyOptions, read_known
from pso_attn.types import Array


@dataclass(frozen=True)
class Spso2011Options(TopologyOptions):
    """Options of `pso-spso2011`: inertia is the paper's w and pull its c, with its values."""

    topology: TopologyName = "random"
    inertia: float = 1.0 / (2.0 * math.log(2.0))  # .721
    pull: float = 0.5 + math.log(2.0)  # 1.193


class Spso2011Swarm(NeighbourlySwarm):
    """Standard PSO 2011: a sphere around the centre of gravity, random informants.

    Numbers move as in the paper, whatever the axes, and stop at the ends of their range. Labels
    are copied from position, personal best or neighbourhood best as in `ClassicSwarm`, with
    chances as w : c : c. Of the paper's start two things differ, for the family's sake: the first
    places are a Sobol design, and the first velocities the half-difference of SPSO 2007.
    Stagnated particles are drawn anew, which the paper leaves open.

    options: see `Spso2011Options`; ConfigurationError as for `ClassicSwarm`. The budget of
    generations does not matter.
    """

    lists_pairs = False

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Check the options and join the particles by their topology."""
        self.options = read_known("pso-spso2011", Spso2011Options, options)
        super().__init__(seed, particles, batch, generations, self.options)

    def _mover(self, turn: Turn[Sight]) -> Mover:
        space, state, options = turn.space, turn.state, self.options
        personal, social, leaders = state.attractors(), self._social(turn), self._leaders(turn)
        numbers, levels = ~space.categorical, np.maximum(space.levels, 1)

        def moved(i: int, rng: np.random.Generator) -> Array:
            x, best, seen = state.position[i], personal[i], social[i]
            seen_number = None if leaders[i] == i else seen[numbers]
            centre = gravity(x[numbers], best[numbers], seen_number, options.pull)
            weights = Weights(options.inertia, options.pull, options.pull)
            draws = rng.random((3, x.size))
            to = copied_labels(x, best, seen, levels, weights, options.jump_rate, draws)
            v = turned_back(x, state.velocity[i])[numbers]
            step = options.inertia * v + on_sphere(centre, x[numbers], rng) - x[numbers]
            to[numbers] = np.clip(x[numbers] + step, 0.0, 1.0)
            return to

        return one_by_one(moved)


def gravity(x: Array, personal: Array, social: Array | None, pull: float) -> Array:
    """Return the centre of gravity of x, p' = x + c (p - x) and l' = x + c (l - x).

    social: None where the particle is the best that it sees; then it is that of x and p'.
    """
    towards = x + pull * (personal - x)
    if social is None:
        return (x + towards) / 2.0
    return (x + towards + x + pull * (social - x)) / 3.0


def on_sphere(centre: Array, x: Array, rng: np.random.Generator) -> Array:
    """Return a point of the ball around the centre that reaches to x, uniform along its radius.

    So it is dense in the middle: "not uniform in the sphere", says the program.
    """
    direction = rng.standard_normal(x.size)
    length = np.linalg.norm(direction)
    if length == 0.0:  # no coordinates at all
        return centre
    radius = rng.random() * np.linalg.norm(centre - x)
    return np.asarray(centre + radius * direction / length)


def turned_back(x: Array, v: Array) -> Array:
    """Return the velocity with half of it turned back where it ran into a face of the cube.

    The paper's confinement halves and turns the whole velocity; of it, history keeps the part
    that was travelled up to the face.
    """
    struck = ((x <= 0.0) & (v < 0.0)) | ((x >= 1.0) & (v > 0.0))
    return np.where(struck, -0.5 * v, v)
