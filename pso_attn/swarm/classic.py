"""The textbook swarm as a sampler: a velocity drawn to the personal and the neighbourhood best."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from pso_attn.swarm.bounds import limit, reflect
from pso_attn.swarm.family import Mover, NeighbourlySwarm, Sight, Turn
from pso_attn.swarm.moves import Weights, constricted, copied_labels, inertial, velocity
from pso_attn.swarm.options import ClassicOptions, read_options
from pso_attn.swarm.state import Counts
from pso_attn.types import Array


class ClassicSwarm(NeighbourlySwarm):
    """Textbook particle swarm: constriction or inertia weight; five topologies.

    Numbers move by velocity and are mirrored at the ends of their range. Labels (categorical and
    bool knobs) never enter arithmetic: each is copied from the particle's position, its personal
    best or its neighbourhood best, with chances as inertia : cognitive : social, and at
    `jump_rate` it is drawn uniformly. The first `particles` trials are a scrambled Sobol design;
    then particles move, or are drawn anew when they stagnate.

    generations: the budget that the search began with, over which an inertia weight falls.
    options: see `ClassicOptions`. Raises ConfigurationError for fewer than two particles, a batch
    that does not fit the swarm, and options that cannot work.
    """

    name: ClassVar[str] = "pso-classic"
    kind: ClassVar[type[ClassicOptions]] = ClassicOptions
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
        self.options = read_options(options, self.name, self.kind)
        super().__init__(seed, particles, batch, generations, self.options)

    def _weights(self, generation: int) -> Weights:
        cognitive, social = self.options.cognitive, self.options.social
        if self.options.rule == "constriction":
            return constricted(cognitive, social)
        return inertial(cognitive, social, generation, self.generations)

    def _mover(self, turn: Turn[Sight]) -> Mover:
        space, state = turn.space, turn.state
        personal, social = state.attractors(), self._social(turn)
        weights, levels = self._weights(turn.generation), np.maximum(space.levels, 1)

        def moved(movers: Counts, rngs: Iterable[np.random.Generator]) -> Array:
            x, best, seen = state.position[movers], personal[movers], social[movers]
            draws = np.stack([rng.random((5, space.dimension)) for rng in rngs], axis=1)
            pulled = velocity(x, state.velocity[movers], best, seen, weights, draws[:2])
            numbers = reflect(x + limit(pulled, self.options.velocity_limit))
            jump_rate = self.options.jump_rate
            labels = copied_labels(x, best, seen, levels, weights, jump_rate, draws[2:])
            return np.where(space.categorical, labels, numbers)

        return moved
