"""The global-best swarm of pyswarms, asked for batches, its velocities replayed from history."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from pso_attn.baselines.options import Baseline
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.slots import slots
from pso_attn.swarm.state import SwarmState, advance, unborn
from pso_attn.types import Array, History, Proposal

OPTIONS = {"c1": 0.5, "c2": 0.3, "w": 0.9}  # those of pyswarms' documentation


class PySwarms(Baseline):
    """Global-best particle swarm of the pyswarms package, by its own operators.

    As `pyswarms.single.GlobalBestPSO` with the options of its documentation and its default of
    periodic bounds. It knows numbers only: the bins of discrete knobs and of labels lie on a line.
    Particles begin at uniform places and with uniform velocities.
    """

    name = "pyswarms"
    _fold: Fold[SwarmState] | None = None

    @cached_property
    def _topology(self) -> Any:  # pyswarms has no types
        """Its star, in which everybody sees everybody."""
        from pso_attn.swarm.pyswarms_bridge import Star  # slow: only once a swarm moves

        return Star()

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next particles go; pure in the seed, space and history."""
        generation = len(history)
        particles = slots(generation, self.batch, self.particles)
        self._fold = folded(self._fold, space, history, self._first, self._after)
        positions, _ = self._moved(self._fold.state, generation)
        chosen = positions[list(particles)]
        return Proposal(space.with_starts(chosen, generation * self.batch), particles)

    def _first(self, space: Space) -> SwarmState:
        return unborn(self.particles, space.dimension)

    def _after(
        self, space: Space, history: History, state: SwarmState, generation: int
    ) -> SwarmState:
        """Return the swarm after one more generation, its velocities as they were drawn."""
        trials, none = history.generations[generation], np.zeros(self.particles, dtype=bool)
        _, drawn = self._moved(state, generation)
        numbers = np.zeros(space.dimension, dtype=bool)
        after = advance(state, trials, history, none, numbers, self.seed)
        velocity = state.velocity.copy()
        for trial in trials:
            velocity[trial.candidate.particle] = drawn[trial.candidate.particle]
        return replace(after, velocity=velocity)

    def _moved(self, state: SwarmState, generation: int) -> tuple[Array, Array]:
        """Return each particle's next position and velocity, (P, D) each, as if all moved."""
        from pso_attn.swarm.pyswarms_bridge import Swarm  # type: ignore[attr-defined]  # through the one file that imports pyswarms

        begin = generator(self.seed, "pyswarms", "first")
        position, velocity = begin.random((2, *state.position.shape))
        if not state.evaluated.any():
            return position, velocity
        swarm = Swarm(position=state.position, velocity=state.velocity, options=OPTIONS)
        swarm.pbest_pos, swarm.pbest_cost = state.attractors(), state.ranks()
        best, cost = self._topology.compute_gbest(swarm)
        swarm.best_pos = best if np.isfinite(cost) else state.position  # nobody to go to
        bounds = (np.zeros(state.position.shape[1]), np.ones(state.position.shape[1]))
        with global_draws(int(generator(self.seed, generation, "pyswarms").integers(2**32))):
            swarm.velocity = self._topology.compute_velocity(swarm, bounds=bounds)
            moved = self._topology.compute_position(swarm, bounds=bounds)
        known = state.evaluated[:, None]
        return np.where(known, moved, position), np.where(known, swarm.velocity, velocity)


@contextmanager
def global_draws(seed: int) -> Iterator[None]:
    """Seed numpy's global generator inside the block, and put it back as it was.

    pyswarms draws from nothing else.
    """
    before = np.random.get_state(legacy=False)  # noqa: NPY002  # to put back what is not ours
    np.random.seed(seed)  # noqa: NPY002  # pyswarms draws from it
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002  # as it was
