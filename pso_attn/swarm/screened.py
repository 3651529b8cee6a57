"""The default swarm: each particle draws many moves, and a surrogate says which one it makes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.space.repair import Repaired
from pso_attn.swarm.covariance import Learned
from pso_attn.swarm.crowd import CROWD, crowd_choice, crowd_moves, draws_each, points_for
from pso_attn.swarm.draws import moves, start, varied
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.ledger import Ledger, keys, modelled
from pso_attn.swarm.one_thread import one_thread
from pso_attn.swarm.screened_options import ScreenedOptions, read_screened_options
from pso_attn.swarm.screening import Forecast, chosen_moves
from pso_attn.swarm.separable import SeparableSwarm
from pso_attn.swarm.slots import check_pairs, check_size, slots
from pso_attn.swarm.standing import Standing, standing_of
from pso_attn.swarm.topologies import pyramid, ring, star, von_neumann
from pso_attn.swarm.wide import is_wide
from pso_attn.types import Array, History, Proposal

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
Indices = NDArray[np.intp]

WANDERING = 0.5  # share of a particle's draws that follow anybody instead of its neighbourhood
TRIES = 32  # to begin with settings that are new


class ScreenedSwarm:
    """Particle swarm that asks a Gaussian process which of many moves each particle makes.

    A ring swarm's velocity rule makes the moves, or a learned normal distribution, or both of
    them; expected improvement chooses among them and improves the chosen one in steps as large as
    they are apart at most, and what was chosen for the other particles of the batch is taken into
    account: the swarm says where to look, the model does not. Particles begin near the defaults;
    if everything failed before something worked, they begin again then (`Ledger.silent`).
    Where losses are noisy, the model's mean stands for them, and a particle may look again at its
    personal best. Made for 20 to 2,000 evaluations of mixed and conditional spaces. Where there
    are more than 256 dimensions no surrogate helps, and `SeparableSwarm`, the best mover of
    weights, takes over with its own defaults.

    generations: the budget that the search began with, for wide spaces.
    options: see `ScreenedOptions`. Raises ConfigurationError for fewer than two particles, a
    batch that does not fit the swarm, and options that cannot work.
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
        check_size(particles, batch)
        self.seed, self.particles, self.batch = seed, particles, batch
        self.options = read_screened_options(options)
        check_pairs(self.options.topology, self.options.neighbours, particles)
        self._links = _links(self.options, particles)
        self._wide = SeparableSwarm(seed, particles, batch, generations)
        self._fold: Fold[Ledger] | None = None
        self._learned: Fold[Learned] | None = None

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next `batch` particles go; pure in the seed, space and history."""
        if is_wide(space):
            return self._wide.propose(space, history)
        generation = len(history)
        first = generation * self.batch
        particles = slots(generation, self.batch, self.particles)
        if first - self.ledger(space, history).silent < self.particles:
            positions = self._begun(space, history, first, particles)
        else:
            with one_thread():
                positions = space.with_starts(self._moved(space, history, particles), first)
        return Proposal(positions, particles)

    def ledger(self, space: Space, history: History) -> Ledger:
        """Return the history's trials as arrays, folding only what was not folded before."""
        if self.options.moves != "velocity":
            return self.learned(space, history).ledger
        self._fold = folded(self._fold, space, history, _no_trials, _extended)
        return self._fold.state

    def learned(self, space: Space, history: History) -> Learned:
        """Return what moves by a distribution go by, folding only what was not folded before."""

        def step(space: Space, history: History, known: Learned, generation: int) -> Learned:
            return known.extended(space, history.generations[generation], history, self.particles)

        self._learned = folded(self._learned, space, history, Learned.first, step)
        return self._learned.state

    def _begun(
        self, space: Space, history: History, first: int, particles: tuple[int, ...]
    ) -> Array:
        """Return the starts and then points around them, (B, D), new settings if any are left."""
        known = set(self.ledger(space, history).names)
        positions = space.with_starts(start(space, self.seed, first, self.batch), first)
        for row, particle in enumerate(particles):
            rng = generator(self.seed, len(history), particle, "start")
            for _ in range(TRIES):
                trained = space.repair(positions[row], self.seed, len(history), particle)
                (name,) = keys(modelled(space, trained.position[None]))
                if name not in known or first + row < len(space.starts):
                    break
                positions[row] = varied(space, positions[[row]], rng)[0]
            known.add(name)
        return positions

    def _moved(self, space: Space, history: History, particles: tuple[int, ...]) -> Array:
        """Return the most promising move of each of the particles, (B, D)."""
        generation, ledger = len(history), self.ledger(space, history)
        if self.options.moves == "velocity":
            most = points_for(len(particles))
            standing = standing_of(ledger, space.categorical, self.particles, most)
        else:
            standing = self.learned(space, history).current(space, self.particles)
        known = set(ledger.names)
        if len(particles) > CROWD:
            return self._swept(space, history, standing, np.array(particles), known)
        drawn = np.stack(
            [self._drawn(space, history, standing, i, known) for i in particles]
        )  # (B, draws, D)
        trained = None
        if space.constraints or space.divisors:
            forecast = Forecast.of(standing.surrogate, modelled(space, _flat(drawn)))
            promise = forecast.promise(standing.best).reshape(drawn.shape[:2])
            ranked = np.argsort(-promise, axis=1, kind="stable")
            drawn = np.take_along_axis(drawn, ranked[:, :, None], axis=1)

            def trained(slot: int, position: Array) -> Repaired:
                return space.repair(position, self.seed, generation, particles[slot])

        order = np.argsort(standing.costs[list(particles)], kind="stable")
        again: set[bytes] = set()
        if standing.is_noisy:  # what led the particles may be looked at again
            moving = [i for i in particles if np.isfinite(standing.costs[i])]
            again = set(keys(ledger.points[standing.bests[moving]]))
        rngs = [generator(self.seed, generation, i, "steps") for i in particles]
        return chosen_moves(space, standing, drawn, known, again, order, rngs, trained)

    def _swept(
        self,
        space: Space,
        history: History,
        standing: Standing,
        particles: Indices,
        known: set[bytes],
    ) -> Array:
        """Return a move for each particle of a crowd, (B, D), from fewer draws: see `crowd`.

        Constraints are left to whoever plans the generation.
        """
        ledger, rate = self.ledger(space, history), self.options.jump_rate
        rng = generator(self.seed, len(history), int(particles[0]), "crowd")
        slots, count = len(particles), draws_each(self.options.draws, len(particles))
        by_velocity = self._by_velocity(count)
        kinds = []
        if by_velocity:
            kinds.append(
                crowd_moves(
                    space,
                    ledger,
                    standing,
                    self._links,
                    particles,
                    by_velocity,
                    WANDERING,
                    rate,
                    rng,
                )
            )
        if by_velocity < count:
            learned, rest = self.learned(space, history), count - by_velocity
            kinds.append(
                np.stack([learned.moves(space, standing, rest, rate, rng) for _ in particles])
            )
        drawn = np.concatenate(kinds, axis=1)  # (B, draws, D)
        able = np.isfinite(standing.costs[particles])
        if standing.is_noisy and drawn.shape[1] > 1:  # a best may be looked at again
            bests = standing.bests[particles[able]]
            drawn[able, -1] = ledger.positions[bests]
            known = known - set(keys(ledger.points[bests]))
        points = modelled(space, _flat(drawn))
        promise = Forecast.of(standing.surrogate, points).promise(standing.best)
        order = np.argsort(standing.costs[particles], kind="stable")
        chosen = crowd_choice(promise.reshape(slots, -1), keys(points), known, order)
        return np.asarray(drawn[np.arange(slots), chosen])

    def _by_velocity(self, draws: int) -> int:
        """Return how many of a particle's draws are made by its velocity."""
        return {"velocity": draws, "covariance": 0, "both": draws // 2}[self.options.moves]

    def _drawn(
        self, space: Space, history: History, standing: Standing, i: int, known: set[bytes]
    ) -> Array:
        """Return what particle i has to choose from, (draws, D), new settings if any are left."""
        rng = generator(self.seed, len(history), i, "moves")
        ledger, draws = self.ledger(space, history), self.options.draws
        by_velocity, kinds = self._by_velocity(draws), []
        if by_velocity:
            kinds.append(self._velocity_moves(space, ledger, standing, i, by_velocity, rng))
        if by_velocity < draws:
            learned, rate = self.learned(space, history), self.options.jump_rate
            kinds.append(learned.moves(space, standing, draws - by_velocity, rate, rng))
        drawn = np.concatenate(kinds)
        for _ in range(space.dimension):
            repeated = np.array([key in known for key in keys(modelled(space, drawn))])
            if not repeated.any():
                break
            drawn[repeated] = varied(space, drawn[repeated], rng)
        if standing.is_noisy and np.isfinite(standing.costs[i]) and len(drawn) > 1:
            drawn[-1] = ledger.positions[standing.bests[i]]
        return drawn

    def _velocity_moves(
        self,
        space: Space,
        ledger: Ledger,
        standing: Standing,
        i: int,
        count: int,
        rng: np.random.Generator,
    ) -> Array:
        """Return where its velocity may take particle i, (count, D)."""
        leader = int(self._links[i, np.argmin(standing.costs[self._links[i]])])
        uniform = rng.random((count, space.dimension))
        path = ledger.path(i)
        if not np.isfinite(standing.costs[leader]) or not len(path):
            return space.snap(uniform)  # nothing that could draw it anywhere
        x = path[-1]
        # from rest, whoever leads its neighbourhood would not move: SPSO 2007's first velocity
        v = x - path[-2] if len(path) > 1 else 0.5 * (uniform - x)
        own = i if np.isfinite(standing.costs[i]) else leader
        personal = ledger.positions[standing.bests[own]]
        social = ledger.positions[standing.bests[_followed(standing, leader, count, rng)]]
        v = np.broadcast_to(v, uniform.shape)
        return moves(space, x, v, personal, social, self.options.jump_rate, rng)


def _followed(
    standing: Standing, leader: int, count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return which particle's best draws each move, (count,): the leader, or anybody's."""
    able = np.flatnonzero(np.isfinite(standing.costs))
    anybody = able[rng.integers(len(able), size=count)]
    return np.where(rng.random(count) < WANDERING, anybody, leader)


def _no_trials(space: Space) -> Ledger:
    return Ledger.empty(space.dimension)


def _extended(space: Space, history: History, ledger: Ledger, generation: int) -> Ledger:
    return ledger.extended(space, history.generations[generation], history)


def _links(options: ScreenedOptions, particles: int) -> Indices:
    """Return whom each particle sees, (P, K), itself first."""
    if options.topology == "ring":
        return ring(particles, options.neighbours)
    return {"star": star, "von_neumann": von_neumann, "pyramid": pyramid}[options.topology](
        particles
    )


def _flat(drawn: Array) -> Array:
    return drawn.reshape(-1, drawn.shape[-1])
