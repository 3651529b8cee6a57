"""The textbook swarm as a sampler: history in, the next generation's positions out."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator, sobol
from pso_attn.space import Space
from pso_attn.swarm.bounds import limit, reflect
from pso_attn.swarm.moves import Weights, constricted, copied_labels, inertial, velocity
from pso_attn.swarm.options import read_options
from pso_attn.swarm.restarts import to_redraw
from pso_attn.swarm.state import Flags, SwarmState, advance, unborn
from pso_attn.types import Array, History, Objective, Proposal, Trial

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class _Fold:
    """The state after the first generations of some history: a cache, equal to folding anew."""

    space: Space
    objectives: tuple[Objective, ...]
    generations: tuple[tuple[Trial, ...], ...]
    state: SwarmState

    def begins(self, space: Space, history: History) -> bool:
        """Tell whether this is a prefix of that history: the same trials, by identity."""
        return (
            self.space is space
            and self.objectives == history.objectives
            and self.generations == history.generations[: len(self.generations)]
        )


class ClassicSwarm:
    """Textbook particle swarm: constriction or inertia weight, ring or star.

    Numbers move by velocity and are mirrored at the ends of their range. Labels (categorical and
    bool knobs) never enter arithmetic: each is copied from the particle's position, its personal
    best or its neighbourhood best, with chances as inertia : cognitive : social, and at
    `jump_rate` it is drawn uniformly. The first `particles` trials are a scrambled Sobol design;
    then particles move, or are drawn anew when they stagnate.

    generations: the budget that the search began with, over which an inertia weight falls.
    options: see `ClassicOptions`. Raises ConfigurationError for fewer than two particles, a batch
    that does not fit the swarm, and options that cannot work.
    """

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: Mapping[str, Any] = _NO_OPTIONS,
    ) -> None:
        """Check the options and join the particles by their topology."""
        if particles < 2:
            raise ConfigurationError(
                f"a swarm of {particles} has nobody to learn from; give at least 2 particles, "
                "or choose the sampler random or qmc"
            )
        if not 1 <= batch <= particles:
            raise ConfigurationError(
                f"a batch of {batch} does not fit a swarm of {particles}; give 1 to {particles}"
            )
        from pso_attn.swarm.pyswarms_bridge import Ring, Star  # slow: only once a swarm is made

        self.seed, self.particles, self.batch = seed, particles, batch
        self.generations = generations
        self.options = read_options(options)
        self._topology: Ring | Star = (
            Star() if self.options.topology == "star" else Ring(self.options.neighbours)
        )
        self._fold: _Fold | None = None

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next `batch` particles go; pure in the seed, space and history."""
        state = self.state(space, history)
        generation = len(history)
        first = generation * self.batch
        particles = tuple((first + slot) % self.particles for slot in range(self.batch))
        positions = self._placed(space, state, generation, particles)
        return Proposal(space.with_starts(positions, first), particles)

    def state(self, space: Space, history: History) -> SwarmState:
        """Return the swarm after that history, folding only what was not folded before."""
        fold = self._fold
        if fold is None or not fold.begins(space, history):
            fold = _Fold(space, history.objectives, (), unborn(self.particles, space.dimension))
        state = fold.state
        for trials in history.generations[len(fold.generations) :]:
            redrawn = self._redrawn(state)
            state = advance(state, trials, history, redrawn, space.categorical, self.seed)
        self._fold = _Fold(space, history.objectives, history.generations, state)
        return state

    def _redrawn(self, state: SwarmState) -> Flags:
        leaders = self._topology.leaders(state.ranks())
        return to_redraw(state, leaders, self.options.stagnation)

    def _weights(self, generation: int) -> Weights:
        cognitive, social = self.options.cognitive, self.options.social
        if self.options.rule == "constriction":
            return constricted(cognitive, social)
        return inertial(cognitive, social, generation, self.generations)

    def _placed(
        self, space: Space, state: SwarmState, generation: int, particles: tuple[int, ...]
    ) -> Array:
        """Return a position for each of the particles, (B, D)."""
        anew = self._redrawn(state)
        personal, social = state.attractors(), self._topology.neighbourhood_bests(state)
        design = None
        if not state.evaluated[list(particles)].all():
            design = sobol(self.seed, space.dimension, 0, self.particles)
        weights = self._weights(generation)
        positions = np.empty((len(particles), space.dimension))
        for slot, i in enumerate(particles):
            if design is not None and not state.evaluated[i]:
                drawn = design[i]
            elif anew[i]:
                drawn = generator(self.seed, generation, i, "restart").random(space.dimension)
            else:
                rng = generator(self.seed, generation, i, "move")
                drawn = self._moved(space, state, i, personal[i], social[i], weights, rng)
            positions[slot] = drawn
        return np.where(space.categorical, space.snap(positions), positions)

    def _moved(
        self,
        space: Space,
        state: SwarmState,
        i: int,
        personal: Array,
        social: Array,
        weights: Weights,
        rng: np.random.Generator,
    ) -> Array:
        """Return where particle i goes from its position, (D,)."""
        x = state.position[i]
        pulled = velocity(x, state.velocity[i], personal, social, weights, rng)
        numbers = reflect(x + limit(pulled, self.options.velocity_limit))
        levels = np.maximum(space.levels, 1)
        labels = copied_labels(x, personal, social, levels, weights, self.options.jump_rate, rng)
        return np.where(space.categorical, labels, numbers)
