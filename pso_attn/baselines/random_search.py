"""Uniform random search (Bergstra & Bengio 2012): what any sampler has to beat."""

import numpy as np

from pso_attn.baselines.options import Baseline
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.slots import slots
from pso_attn.types import History, Proposal


class RandomSearch(Baseline):
    """Uniform random search: every trial drawn on its own."""

    name = "random"

    def propose(self, space: Space, history: History) -> Proposal:
        """Return uniform positions; of the history only its length matters."""
        generation = len(history)
        particles = slots(generation, self.batch, self.particles)
        positions = np.stack(
            [
                generator(self.seed, generation, particle, "random").random(space.dimension)
                for particle in particles
            ]
        )
        return Proposal(space.with_starts(positions, generation * self.batch), particles)
