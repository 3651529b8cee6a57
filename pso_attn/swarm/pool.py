"""Swarms in which some members move and the others wait: no evaluation goes to who stays.

In Cheng & Jin's two swarms a generation leaves winners, or whoever learns nothing, where they are,
and with them their losses. The loop evaluates whatever it is given, so its particles are not the
members: a particle is a turn to move. The pool has two members for each turn, and each generation
the rule says which members take the turns. With the batch of a whole swarm that is a generation
of the papers, of twice as many members.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.moves import Weights, copied_labels
from pso_attn.swarm.options import WideOptions
from pso_attn.swarm.ranking import merit
from pso_attn.swarm.slots import check_size, slots
from pso_attn.swarm.wide import scattered, storable
from pso_attn.types import Array, History, Proposal

Members = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Pool:
    """The members after some generations; N members, D dimensions.

    position, velocity: (N, D); the velocity of a label is 0. merits: (N, 2), see `merit`.
    """

    position: Array
    velocity: Array
    merits: Array

    def ranked(self) -> Members:
        """Return the members, (N,), best first; equals by number."""
        return np.lexsort(self.merits.T[::-1])

    @cached_property
    def mean(self) -> Array:
        """The mean of all members, (D,)."""
        return np.asarray(self.position.mean(axis=0))


class PooledSwarm(ABC):
    """A swarm of twice as many members as particles, each generation moving `batch` of them.

    The first trials are the members, drawn where `scattered` says.
    """

    def __init__(self, seed: int, particles: int, batch: int, options: WideOptions) -> None:
        """Refuse fewer than two particles and a batch that does not fit the swarm."""
        check_size(particles, batch)
        self.seed, self.particles, self.batch = seed, particles, batch
        self._spread, self._jump_rate = options.spread, options.jump_rate
        self._beginning = -(-2 * particles // batch)  # generations
        self._fold: Fold[Pool] | None = None

    @property
    def members(self) -> int:
        """N, twice the particles in whole batches."""
        return self._beginning * self.batch

    @abstractmethod
    def _movers(self, space: Space, pool: Pool, generation: int) -> tuple[Members, Members]:
        """Return which members move, (batch,), and what each learns from, one row each."""

    @abstractmethod
    def _moved(
        self, space: Space, pool: Pool, member: int, models: Members, rng: np.random.Generator
    ) -> Array:
        """Return where a member goes, (D,)."""

    def _learned(
        self,
        space: Space,
        pool: Pool,
        member: int,
        shown: Array,
        share: float,
        draws: Array,
        rng: np.random.Generator,
    ) -> Array:
        """Return where a member goes, (D,), that is shown (D,) and pulled to the mean by `share`.

        x' = x + r1 v + r2 (shown - x) + share r3 (m - x), mirrored at the faces; labels are copied
        from it, from what it is shown, or in place of the mean from any member. draws: (3, D).
        """
        x, (r1, r2, r3) = pool.position[member], draws
        velocity = r1 * pool.velocity[member] + r2 * (shown - x)
        velocity += share * r3 * (pool.mean - x)
        anyone = pool.position[rng.integers(len(pool.position))]
        levels, shares = np.maximum(space.levels, 1), Weights(1.0, 1.0, share)
        drawn = rng.random((3, x.size))
        labels = copied_labels(x, shown, anyone, levels, shares, self._jump_rate, drawn)
        return np.where(space.categorical, labels, reflect(x + velocity))

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next `batch` members go; pure in the seed, space and history."""
        generation = len(history)
        particles = slots(generation, self.batch, self.particles)
        rngs = [generator(self.seed, generation, i, "move") for i in particles]
        if generation < self._beginning:
            uniform = np.stack([rng.random(space.dimension) for rng in rngs])
            positions = scattered(space, uniform, self._spread)
        else:
            pool = self.pool(space, history)
            turns = zip(*self._movers(space, pool, generation), rngs, strict=True)
            positions = np.stack([self._moved(space, pool, *turn) for turn in turns])
        placed = space.with_starts(positions, generation * self.batch)
        return Proposal(storable(space, placed), particles)

    def pool(self, space: Space, history: History) -> Pool:
        """Return the members after that history, folding only what was not folded before."""
        self._fold = folded(self._fold, space, history, self._empty, self._after)
        return self._fold.state

    def _empty(self, space: Space) -> Pool:
        nowhere, count = np.zeros((self.members, space.dimension)), self.members
        return Pool(nowhere, nowhere, np.tile([0.0, np.inf], (count, 1)))

    def _after(self, space: Space, history: History, pool: Pool, generation: int) -> Pool:
        begun = generation >= self._beginning
        if begun:
            movers = self._movers(space, pool, generation)[0]
        else:
            movers = generation * self.batch + np.arange(self.batch)
        trials = sorted(history.generations[generation], key=lambda trial: trial.number)
        position, velocity, merits = (
            array.copy() for array in (pool.position, pool.velocity, pool.merits)
        )
        for member, trial in zip(movers, trials, strict=True):
            position[member] = trial.position
            if begun:
                step = position[member] - pool.position[member]
                velocity[member] = np.where(space.categorical, 0.0, step)
            merits[member] = merit(history, trial)
        return Pool(position, velocity, merits)
