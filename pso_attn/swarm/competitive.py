"""The competitive swarm: members meet in pairs, and losers learn from winners.

Cheng & Jin (2015), A Competitive Swarm Optimizer for Large Scale Optimization, IEEE Transactions
on Cybernetics 45(2), 191-204.
"""

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


@dataclass(frozen=True)
class CompetitiveOptions(WideOptions):
    """Options of `pso-competitive`.

    phi: how strongly losers are drawn to the swarm's mean; the paper's is 0 up to 100 members
    and grows with the logarithm of their number beyond.
    """

    phi: float = 0.0


class CompetitiveSwarm(PooledSwarm):
    """Competitive swarm: no personal bests, no leader; each loser learns from who beat it.

    Each generation draws `batch` pairs among the members. v' = R1 v + R2 (w - x) + phi R3 (m - x),
    x' = x + v' (eqs. 6 and 7) with w the winner, m the mean of all members and R1, R2, R3 ~
    U(0, 1) for each coordinate; mirrored at the faces. Only losers are evaluated: what has won
    keeps its loss. Where the losses are those of minibatches, a lucky one therefore stands until
    it is beaten; the same examples for all trials are fairer. Labels are copied from the loser,
    the winner or, in place of the mean, any member; at `jump_rate` they are drawn anew.

    options: see `CompetitiveOptions`. The budget of generations does not matter. Raises
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
        self.options = read_known("pso-competitive", CompetitiveOptions, options)
        super().__init__(seed, particles, batch, self.options)

    def _movers(self, space: Space, pool: Pool, generation: int) -> tuple[Members, Members]:
        """Return the losers, (batch,), and their winners, (batch,), of pairs drawn anew."""
        drawn = generator(self.seed, generation, "pairs").permutation(self.members)
        pairs = drawn[: 2 * self.batch].reshape(-1, 2)
        place = np.argsort(pool.ranked())  # of each member, 0 is best
        first_wins = place[pairs[:, 0]] < place[pairs[:, 1]]
        losers = np.where(first_wins, pairs[:, 1], pairs[:, 0])
        return losers, np.where(first_wins, pairs[:, 0], pairs[:, 1])

    def _moved(
        self, space: Space, pool: Pool, member: int, models: Members, rng: np.random.Generator
    ) -> Array:
        draws = rng.random((3, space.dimension))
        winner = pool.position[models]
        return self._learned(space, pool, member, winner, self.options.phi, draws, rng)
