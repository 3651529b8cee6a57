"""What the swarms share: memory folded from history, first places, restarts, and who sees whom."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np

from pso_attn.seeding import generator, sobol
from pso_attn.space import Space
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.options import SwarmOptions, TopologyOptions
from pso_attn.swarm.restarts import to_redraw
from pso_attn.swarm.slots import check_pairs, check_size, slots
from pso_attn.swarm.state import Counts, Flags, SwarmState, advance, unborn
from pso_attn.swarm.topologies import Links
from pso_attn.swarm.wide import is_wide, scattered, storable
from pso_attn.types import Array, History, Proposal

Memory = TypeVar("Memory")
Mover = Callable[[Counts, Iterable[np.random.Generator]], Array]

AT_ONCE = 1 << 16  # coordinates that are moved at once, so that wide spaces fill no memory


@dataclass(frozen=True, eq=False)
class Turn(Generic[Memory]):
    """What the particles know when some of them move in generation `generation`.

    memory: what the variant remembers beside the state, brought up to this generation.
    """

    space: Space
    generation: int
    state: SwarmState
    memory: Memory


class FoldedSwarm(ABC, Generic[Memory]):
    """A swarm that remembers what its history tells; a variant says how one particle moves.

    The first `particles` trials are a scrambled Sobol design, in wide spaces normal draws around
    the space's start; then particles move, or are drawn anew when they stagnate
    (`pso_attn.swarm.restarts`). Particles begin with a velocity.
    """

    def __init__(
        self, seed: int, particles: int, batch: int, generations: int, options: SwarmOptions
    ) -> None:
        """Refuse fewer than two particles and a batch that does not fit the swarm."""
        check_size(particles, batch)
        self.seed, self.particles, self.batch = seed, particles, batch
        self.generations, self._stagnation = generations, options.stagnation
        self._spread = options.spread
        self._fold: Fold[tuple[SwarmState, Memory]] | None = None

    @abstractmethod
    def _first_memory(self, dimension: int) -> Memory:
        """Return what the variant remembers before anything was evaluated."""

    @abstractmethod
    def _recalled(self, before: Turn[Memory]) -> Memory:
        """Return the memory with which this generation moves, from that of the one before."""

    @abstractmethod
    def _leaders(self, turn: Turn[Memory]) -> Counts:
        """Return the particle that each follows, (P,): itself where it never restarts."""

    @abstractmethod
    def _mover(self, turn: Turn[Memory]) -> Mover:
        """Return what tells where particles (M,) go in this turn, (M, D), each by its draws."""

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next `batch` particles go; pure in the seed, space and history."""
        generation = len(history)
        turn = self._turn(space, generation, *self._folded(space, history))
        particles = slots(generation, self.batch, self.particles)
        placed = self._placed(turn, particles)
        placed = space.with_starts(placed, generation * self.batch)
        return Proposal(storable(space, placed), particles)

    def state(self, space: Space, history: History) -> SwarmState:
        """Return the swarm after that history, folding only what was not folded before."""
        return self._folded(space, history)[0]

    def _folded(self, space: Space, history: History) -> tuple[SwarmState, Memory]:
        self._fold = folded(self._fold, space, history, self._unborn, self._after)
        return self._fold.state

    def _unborn(self, space: Space) -> tuple[SwarmState, Memory]:
        return unborn(self.particles, space.dimension), self._first_memory(space.dimension)

    def _after(
        self, space: Space, history: History, known: tuple[SwarmState, Memory], generation: int
    ) -> tuple[SwarmState, Memory]:
        turn = self._turn(space, generation, *known)
        trials, redrawn = history.generations[generation], self._redrawn(turn)
        state = advance(
            turn.state,
            trials,
            history,
            redrawn,
            space.categorical,
            self.seed,
            lambda uniform: scattered(space, uniform, self._spread),
        )
        return state, turn.memory

    def _turn(
        self, space: Space, generation: int, state: SwarmState, memory: Memory
    ) -> Turn[Memory]:
        before = Turn(space, generation, state, memory)
        return Turn(space, generation, state, self._recalled(before))

    def _redrawn(self, turn: Turn[Memory]) -> Flags:
        return to_redraw(turn.state, self._leaders(turn), self._stagnation)

    def _placed(self, turn: Turn[Memory], particles: tuple[int, ...]) -> Array:
        """Return a position for each of the particles, (B, D)."""
        space, state, generation = turn.space, turn.state, turn.generation
        anew, moved, moving = self._redrawn(turn), self._mover(turn), list[int]()
        design = None
        if not state.evaluated[list(particles)].all():
            design = self._design(space)
        positions = np.empty((len(particles), space.dimension))
        for slot, i in enumerate(particles):
            if design is not None and not state.evaluated[i]:
                positions[slot] = design[i]
            elif anew[i]:
                rng = generator(self.seed, generation, i, "restart")
                drawn = scattered(space, rng.random(space.dimension), self._spread)
                positions[slot] = drawn
            else:
                moving.append(slot)
        together = max(1, AT_ONCE // space.dimension)
        for first in range(0, len(moving), together):
            block = moving[first : first + together]
            movers = [particles[slot] for slot in block]
            rngs = (generator(self.seed, generation, i, "move") for i in movers)
            positions[block] = moved(np.array(movers), rngs)
        return positions

    def _design(self, space: Space) -> Array:
        """Return where the particles begin, (P, D)."""
        if not is_wide(space):
            return sobol(self.seed, space.dimension, 0, self.particles)
        rng = generator(self.seed, "design")
        return scattered(space, rng.random((self.particles, space.dimension)), self._spread)


def one_by_one(moved: Callable[[int, np.random.Generator], Array]) -> Mover:
    """Return the mover that asks `moved` where each particle goes, (D,), with its generator."""
    return lambda movers, rngs: np.stack(
        [moved(int(i), rng) for i, rng in zip(movers, rngs, strict=True)]
    )


@dataclass(frozen=True)
class Sight:
    """Which draw of a random topology holds; the others never change.

    drawn: the generation before which the links were drawn. barren: evaluations since then in
    which the swarm's best did not improve. best: (-fidelity, loss) of that best.
    """

    drawn: int = 0
    barren: int = 0
    best: tuple[float, float] = (0.0, float("inf"))


class NeighbourlySwarm(FoldedSwarm[Sight]):
    """A swarm in which each particle sees the personal bests of its neighbours.

    Random links are drawn anew once a move of the whole swarm did not better its best: Clerc
    (2012), "adaptive random topology". With small batches that takes several generations.
    """

    lists_pairs: ClassVar[bool] = True  # False: the best in sight alone is asked for

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: TopologyOptions,
    ) -> None:
        """Join the particles by the topology that the options name."""
        super().__init__(seed, particles, batch, generations, options)
        if self.lists_pairs or options.topology != "star":
            check_pairs(options.topology, options.neighbours, particles)
        from pso_attn.swarm.pyswarms_bridge import make_topology  # slow: once a swarm is made

        self._topology = make_topology(
            options.topology, options.neighbours, options.informed, seed
        )

    def _first_memory(self, dimension: int) -> Sight:
        return Sight()

    def _recalled(self, before: Turn[Sight]) -> Sight:
        sight, state = before.memory, before.state
        first = np.lexsort((state.best_loss, -state.best_fidelity))[0]
        best = (float(-state.best_fidelity[first]), float(state.best_loss[first]))
        better = best < sight.best
        barren = 0 if better or before.generation == 0 else sight.barren + self.batch
        if barren >= self.particles:
            return Sight(before.generation, 0, best)
        return Sight(sight.drawn, barren, best)

    def _leaders(self, turn: Turn[Sight]) -> Counts:
        return self._topology.leaders(turn.state.ranks(), turn.memory.drawn)

    def _links(self, turn: Turn[Sight]) -> Links:
        """Return who sees whom, (P, K), itself first."""
        return self._topology.links(self.particles, turn.memory.drawn)

    def _social(self, turn: Turn[Sight]) -> Array:
        """Return the best position that each particle sees, (P, D)."""
        return self._topology.neighbourhood_bests(turn.state, turn.memory.drawn)
