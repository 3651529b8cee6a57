"""The default swarm: each particle draws many moves, and a surrogate says which one it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.draws import moves, start, start_length, varied
from pso_attn.swarm.ledger import Ledger, keys, modelled
from pso_attn.swarm.screened_options import ScreenedOptions, read_screened_options
from pso_attn.swarm.screening import Forecast
from pso_attn.swarm.surrogate import Surrogate, fit
from pso_attn.swarm.targets import comparable, normalised
from pso_attn.swarm.topologies import pyramid, ring, star, von_neumann
from pso_attn.types import Array, History, Objective, Proposal, Trial

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

NOISE_TRUSTED = 0.05  # share of the spread that is noise from which on only the model counts
POINTS = 400  # that the surrogate is fitted to at most
FINALISTS = 5  # of a particle's draws are repaired where there are constraints


@dataclass(frozen=True, eq=False)
class _Fold:
    """The ledger of the first generations of some history: a cache, equal to folding anew."""

    space: Space
    objectives: tuple[Objective, ...]
    generations: tuple[tuple[Trial, ...], ...]
    ledger: Ledger

    def begins(self, space: Space, history: History) -> bool:
        """Tell whether this is a prefix of that history: the same trials, by identity."""
        return (
            self.space is space
            and self.objectives == history.objectives
            and self.generations == history.generations[: len(self.generations)]
        )


@dataclass(frozen=True, eq=False)
class _Standing:
    """What the swarm makes of its ledger; P particles.

    merits: (n,), the trials' targets, the less trusted the noisier they are. bests: (P,), each
    particle's best trial. costs: (P,), its rank among all trials; infinity without one.
    """

    surrogate: Surrogate
    merits: Array
    bests: Indices
    costs: Array

    @property
    def is_noisy(self) -> bool:
        """Whether so much of the losses' spread is noise that only the model is trusted."""
        return self.surrogate.hyperparameters.noise >= NOISE_TRUSTED


class ScreenedSwarm:
    """Particle swarm that asks a Gaussian process which of many moves each particle makes.

    A ring swarm's velocity rule makes the moves, expected improvement chooses among them, and
    what was chosen for the other particles of the batch is taken into account: the swarm says
    where to look, the model does not. After a start around the defaults. Where losses are noisy,
    the model's mean stands for them, and a particle may look again at its personal best.
    Made for 20 to 2,000 evaluations of mixed and conditional spaces.

    generations: the budget that the search began with; a small one shortens the start.
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
        if particles < 2:
            raise ConfigurationError(
                f"a swarm of {particles} has nobody to learn from; give at least 2 particles, "
                "or choose the sampler random or qmc"
            )
        if not 1 <= batch <= particles:
            raise ConfigurationError(
                f"a batch of {batch} does not fit a swarm of {particles}; give 1 to {particles}"
            )
        self.seed, self.particles, self.batch = seed, particles, batch
        self.generations = generations
        self.options = read_screened_options(options)
        self._links = _links(self.options, particles)
        self._fold: _Fold | None = None

    def propose(self, space: Space, history: History) -> Proposal:
        """Return where the next `batch` particles go; pure in the seed, space and history."""
        generation = len(history)
        first = generation * self.batch
        particles = tuple((first + slot) % self.particles for slot in range(self.batch))
        dimension = space.dimension
        if generation < start_length(self.particles, self.batch, self.generations, dimension):
            positions = start(space, self.seed, first, self.batch)
        else:
            positions = self._moved(space, self.ledger(space, history), generation, particles)
        return Proposal(space.with_starts(positions, first), particles)

    def ledger(self, space: Space, history: History) -> Ledger:
        """Return the history's trials as arrays, folding only what was not folded before."""
        fold = self._fold
        if fold is None or not fold.begins(space, history):
            fold = _Fold(space, history.objectives, (), Ledger.empty(space.dimension))
        ledger = fold.ledger
        for trials in history.generations[len(fold.generations) :]:
            ledger = ledger.extended(space, trials, history)
        self._fold = _Fold(space, history.objectives, history.generations, ledger)
        return ledger

    def _moved(
        self, space: Space, ledger: Ledger, generation: int, particles: tuple[int, ...]
    ) -> Array:
        """Return the most promising move of each of the particles, (B, D)."""
        standing = _standing(ledger, space.categorical, self.particles)
        known = set(keys(ledger.points))
        drawn = np.stack(
            [self._drawn(space, ledger, standing, generation, i, known) for i in particles]
        )  # (B, draws, D)
        best = _best(standing, ledger)
        feasible = np.ones(drawn.shape[:2], dtype=bool)
        if space.constraints or space.divisors:
            forecast = Forecast.of(standing.surrogate, modelled(space, _flat(drawn)))
            promise = forecast.promise(best).reshape(drawn.shape[:2])
            finalists = np.argsort(-promise, axis=1, kind="stable")[:, :FINALISTS]
            drawn = np.take_along_axis(drawn, finalists[:, :, None], axis=1)
            drawn, feasible = self._repaired(space, drawn, generation, particles)
        points = modelled(space, _flat(drawn))
        forecast = Forecast.of(standing.surrogate, points)
        order = np.argsort(standing.costs[list(particles)], kind="stable")
        if standing.is_noisy:  # what led the particles may be looked at again
            moving = [i for i in particles if np.isfinite(standing.costs[i])]
            known -= set(keys(ledger.points[standing.bests[moving]]))
        chosen = _chosen(forecast, feasible, keys(points), known, best, order)
        return drawn[np.arange(len(particles)), chosen]

    def _drawn(
        self,
        space: Space,
        ledger: Ledger,
        standing: _Standing,
        generation: int,
        i: int,
        known: set[bytes],
    ) -> Array:
        """Return what particle i has to choose from, (draws, D), new settings if any are left."""
        rng = generator(self.seed, generation, i, "moves")
        leader = int(self._links[i, np.argmin(standing.costs[self._links[i]])])
        uniform = rng.random((self.options.draws, space.dimension))
        path = np.flatnonzero((ledger.particles == i) & ~ledger.again)
        if not np.isfinite(standing.costs[leader]) or not len(path):
            drawn = space.snap(uniform)  # nothing that could draw it anywhere
        else:
            x = ledger.positions[path[-1]]
            # from rest, whoever leads its neighbourhood would not move: SPSO 2007's first velocity
            v = x - ledger.positions[path[-2]] if len(path) > 1 else 0.5 * (uniform - x)
            own = i if np.isfinite(standing.costs[i]) else leader
            personal, social = ledger.positions[standing.bests[[own, leader]]]
            v = np.broadcast_to(v, uniform.shape)
            drawn = moves(space, x, v, personal, social, self.options.jump_rate, rng)
        for _ in range(space.dimension):
            repeated = np.array([key in known for key in keys(modelled(space, drawn))])
            if not repeated.any():
                break
            drawn[repeated] = varied(space, drawn[repeated], rng)
        if standing.is_noisy and np.isfinite(standing.costs[i]):
            drawn[-1] = ledger.positions[standing.bests[i]]
        return drawn

    def _repaired(
        self, space: Space, drawn: Array, generation: int, particles: tuple[int, ...]
    ) -> tuple[Array, Flags]:
        """Return the draws (B, m, D) as they would be trained, and which could be, (B, m)."""
        repaired = [
            [space.repair(position, self.seed, generation, particle) for position in positions]
            for particle, positions in zip(particles, drawn, strict=True)
        ]
        feasible = [[not one.violations for one in row] for row in repaired]
        return np.array([[one.position for one in row] for row in repaired]), np.array(feasible)


def _links(options: ScreenedOptions, particles: int) -> Indices:
    """Return whom each particle sees, (P, K), itself first."""
    if options.topology == "ring":
        return ring(particles, options.neighbours)
    return {"star": star, "von_neumann": von_neumann, "pyramid": pyramid}[options.topology](
        particles
    )


def _standing(ledger: Ledger, labels: Flags, particles: int) -> _Standing:
    targets = normalised(comparable(ledger.losses, ledger.fidelities))
    kept = _kept(targets)
    surrogate = fit(ledger.points[kept], labels, targets[kept])
    trust = min(1.0, surrogate.hyperparameters.noise / NOISE_TRUSTED)
    merits = (1.0 - trust) * targets + trust * surrogate.mean(ledger.points)
    order = np.lexsort((merits, -ledger.fidelities, ~np.isfinite(ledger.losses)))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    ranks[~np.isfinite(ledger.losses)] = np.inf
    bests, costs = np.zeros(particles, dtype=np.intp), np.full(particles, np.inf)
    for trial in order[::-1]:  # the last that is written is the best
        bests[ledger.particles[trial]] = trial
        costs[ledger.particles[trial]] = ranks[trial]
    return _Standing(surrogate, merits, bests, costs)


def _kept(targets: Array) -> Indices:
    """Return which trials the surrogate is fitted to, in order: all of up to 400.

    Of more, 200 are the best, 100 the latest, the rest evenly by target from what is left, so
    that it knows where it is bad as well.
    """
    count = len(targets)
    if count <= POINTS:
        return np.arange(count)
    by_target = np.argsort(targets, kind="stable")
    chosen = np.zeros(count, dtype=bool)
    chosen[by_target[: POINTS // 2]] = True
    chosen[-(POINTS // 4) :] = True
    left = by_target[~chosen[by_target]]
    chosen[left[np.linspace(0, len(left) - 1, POINTS - chosen.sum()).astype(np.intp)]] = True
    return np.flatnonzero(chosen)


def _best(standing: _Standing, ledger: Ledger) -> float:
    """Return what is to be improved on: the least merit of a full trial, or of any."""
    full = np.isfinite(ledger.losses) & (ledger.fidelities == 1.0)
    return float(standing.merits[full].min() if full.any() else standing.merits.min())


def _chosen(
    forecast: Forecast,
    feasible: Flags,
    names: list[bytes],
    known: set[bytes],
    best: float,
    order: Indices,
) -> Indices:
    """Return which of its m draws each of B slots takes, (B,), choosing in the order given.

    feasible: (B, m). names: of the B m draws; what is known or taken is only repeated if nothing
    else is left.
    """
    slots, draws = feasible.shape
    chosen, taken = np.zeros(slots, dtype=np.intp), set(known)
    for slot in order:
        own = slice(slot * draws, (slot + 1) * draws)
        fresh = np.array([name not in taken for name in names[own]])
        promise = forecast.promise(best)[own]
        preferred = np.lexsort((-promise, ~fresh, ~feasible[slot]))
        pick = slot * draws + int(preferred[0])
        chosen[slot] = preferred[0]
        taken.add(names[pick])
        best = min(best, float(forecast.mean[pick]))
        forecast = forecast.pretending(pick)
    return chosen


def _flat(drawn: Array) -> Array:
    return drawn.reshape(-1, drawn.shape[-1])
