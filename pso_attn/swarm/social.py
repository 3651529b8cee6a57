"""The social learning swarm: members imitate better ones, another in each coordinate.

Cheng & Jin (2015), A Social Learning Particle Swarm Optimization Algorithm for Scalable
Optimization, Information Sciences 291, 43-60.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.options import WideOptions, read_known
from pso_attn.swarm.pool import Members, Pool, PooledSwarm
from pso_attn.types import Array

BASE_SIZE = 100  # M
ALPHA = 0.5  # how much less the better members learn in wide spaces


@dataclass(frozen=True)
class SocialOptions(WideOptions):
    """Options of `pso-social`.

    beta: the social influence factor is beta D / M with M = 100.
    """

    beta: float = 0.01


class SocialSwarm(PooledSwarm):
    """Social learning swarm: no personal bests; who is worse learns more often.

    Delta' = r1 Delta + r2 I + r3 eps C, x' = x + Delta'; I is the difference to a member drawn
    anew for each coordinate among all better ones, C that to the members' mean, eps = beta D / M,
    r ~ U(0, 1). A member with i - 1 worse ones among N learns with chances as (1 - (i - 1) / N) to
    the power of alpha log(ceil(D / M)). The paper tosses a coin for each member and evaluates all;
    here as many as are evaluated are drawn by those chances, without the best, which nobody can
    teach. Its N = M + D / 10 members would be a whole budget in a wide space: N is twice the
    particles. Losses of minibatches and labels: as in `CompetitiveSwarm`.

    options: see `SocialOptions`. The budget of generations does not matter. Raises
    ConfigurationError for fewer than two particles and a batch that does not fit the swarm.
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
        self.options = read_known("pso-social", SocialOptions, options)
        super().__init__(seed, particles, batch, self.options)

    def _movers(self, space: Space, pool: Pool, generation: int) -> tuple[Members, Members]:
        """Return who learns, (batch,), and the better ones of each, (batch, N), -1 beyond."""
        ranked = pool.ranked()
        chances = np.log(learning_chances(len(ranked), space.dimension))[1:]
        rng = generator(self.seed, generation, "learners")
        # the largest of log p + Gumbel noise: a draw without replacement (Efraimidis 2006)
        drawn = np.argsort(-(chances + rng.gumbel(size=len(chances))), kind="stable")
        places = 1 + drawn[: self.batch]
        better = np.where(np.arange(len(ranked)) < places[:, None], ranked, -1)
        return ranked[places], better

    def _moved(
        self, space: Space, pool: Pool, member: int, models: Members, rng: np.random.Generator
    ) -> Array:
        better, size = models[models >= 0], space.dimension
        draws = rng.random((3, size))
        demonstrators = better[rng.integers(len(better), size=size)]
        shown = pool.position[demonstrators, np.arange(size)]
        influence = self.options.beta * size / BASE_SIZE
        return self._learned(space, pool, member, shown, influence, draws, rng)


def learning_chances(members: int, dimension: int) -> Array:
    """Return with which chance each learns, (N,), best first; the worst's is 1."""
    worse = np.arange(members)[::-1]
    base = 1.0 - worse / members
    return np.asarray(base ** (ALPHA * math.log(math.ceil(dimension / BASE_SIZE))))
