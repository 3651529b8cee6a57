"""The covariance swarm of wide spaces: mirrored draws around a centre that moves with inertia.

A learned normal distribution in place of velocities of single particles, as in
`pso_attn.swarm.covariance`, with one variance for each coordinate: Ros & Hansen (2008), A Simple
Modification in CMA-ES Achieving Linear Time and Space Complexity, PPSN X. What is needed beside it
where there are more coordinates than evaluations: pairs of mirrored draws (Brockhoff et al. 2010,
Mirrored Sampling and Sequential Selection for Evolution Strategies), ranks that count on both
sides (Salimans et al. 2017, arXiv 1703.03864, "fitness shaping"), and a centre with a velocity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.options import WideOptions, read_known
from pso_attn.swarm.ranking import merit, shared_ranks
from pso_attn.swarm.slots import check_size, slots
from pso_attn.swarm.wide import origin, storable
from pso_attn.types import Array, History, Proposal, Trial

FEWEST = 4  # trials of a population: the centre, where it coasts, and a pair
LEAST = 0.05  # of the rate remains when the budget is spent
PACE = 0.1  # how much the logarithm of the pace changes after a population
PACES = (0.01, 1.0)  # what is admitted: above 1 it undoes the fall of the rate
LEAST_BIN = 0.35  # of a bin: the least standard deviation of a discrete number
ELITE = 0.2  # share of a population whose labels are copied


@dataclass(frozen=True)
class SeparableOptions(WideOptions):
    """Options of `pso-covariance`.

    spread: standard deviation of the draws at first, a fraction of the range. inertia: share of
    the centre's velocity that stays. rate: how many deviations one population adds to it.
    """

    spread: float = 0.05
    inertia: float = 0.8
    rate: float = 0.2


@dataclass(frozen=True, eq=False)
class Cloud:
    """Where the swarm is drawn from, folded from history.

    mean: (D,). velocity: (D,), in deviations. variance: (D,), 1 at first. pace: what multiplies
    the rate. labels: (E, D), positions whose labels are copied, best first. pending: trials since
    the last population.
    """

    mean: Array
    velocity: Array
    variance: Array
    pace: float
    labels: Array
    pending: tuple[Trial, ...] = ()


class SeparableSwarm:
    """Swarm drawn around a moving centre; the mover for spaces as wide as weight matrices.

    A population is a swarm's worth of trials, in whole batches. Its first is the centre m itself,
    its second where the centre would coast to by its velocity alone, the others are pairs m + d z,
    m - d z with d the deviations and z ~ N(0, I), mirrored at the faces. From centred ranks u of
    all, s = sum u z / |u| over the pairs, the velocity is v' = inertia v + s, and the centre moves
    by rate pace d v'. The pace grows while the coasting centre is better than the resting one, and
    falls else: both were trained in one generation, so common minibatches do not matter. Variances
    learn as in separable CMA-ES, (D + 2) / 3 times as fast as in CMA-ES, with the centre's
    velocity as evolution path. The rate falls linearly over the budget that the search began with.
    Steps are those of stored positions, shortened where a start or a repair made them long (Hansen
    2011, arXiv 1110.4181, eq. 3). Failures rank last; a pruned loss ranks behind every full one.
    Labels are copied from the best fifth of the last population; at `jump_rate` they are drawn
    anew.

    generations: the budget that the search began with. options: see `SeparableOptions`. Raises
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
        check_size(particles, batch)
        self.options = read_known("pso-covariance", SeparableOptions, options)
        self.seed, self.particles, self.batch = seed, particles, batch
        self._batches = -(-max(FEWEST, particles) // batch)  # of a population
        self._populations = max(1, generations // self._batches)
        self._fold: Fold[Cloud] | None = None

    @property
    def population(self) -> int:
        """How many trials teach the distribution at a time."""
        return self._batches * self.batch

    def propose(self, space: Space, history: History) -> Proposal:
        """Return the next `batch` draws; pure in the seed, space and history."""
        generation = len(history)
        cloud = self.cloud(space, history)
        number, first = divmod(generation * self.batch, self.population)
        scale = self._deviations(space, cloud, number)
        members = range(first, first + self.batch)
        positions = np.stack(  # one by one: of a million weights each array counts
            [reflect(cloud.mean + scale * self._deviate(space, cloud, number, k)) for k in members]
        )
        if space.categorical.any():
            drawn = [self._labels(space, cloud, number, k) for k in members]
            positions = np.where(space.categorical, drawn, positions)
        placed = space.with_starts(positions, generation * self.batch)
        particles = slots(generation, self.batch, self.particles)
        return Proposal(storable(space, placed), particles)

    def cloud(self, space: Space, history: History) -> Cloud:
        """Return what history taught, folding only what was not folded before."""
        self._fold = folded(self._fold, space, history, self._first, self._after)
        return self._fold.state

    def _first(self, space: Space) -> Cloud:
        mean = origin(space)
        nobody = np.empty((0, len(mean)))
        return Cloud(mean, np.zeros_like(mean), np.ones_like(mean), 1.0, nobody)

    def _after(self, space: Space, history: History, cloud: Cloud, generation: int) -> Cloud:
        pending = (*cloud.pending, *history.generations[generation])
        if len(pending) < self.population:
            return replace(cloud, pending=pending)
        pending = tuple(sorted(pending, key=lambda trial: trial.number))
        number = generation // self._batches
        return self._told(space, history, replace(cloud, pending=pending), number)

    def _told(self, space: Space, history: History, cloud: Cloud, number: int) -> Cloud:
        """Return the cloud after its pending trials, one population."""
        ranks = shared_ranks([merit(history, trial) for trial in cloud.pending])
        order = np.argsort(ranks, kind="stable")
        positions = np.stack([trial.position for trial in cloud.pending])
        labels = positions[order[: math.ceil(ELITE * len(order))]]
        utility = ranks.mean() - ranks
        if not utility.any():
            return replace(cloud, labels=labels, pending=())
        scale, pace = self._deviations(space, cloud, number), cloud.pace
        steps = (positions - cloud.mean) / scale
        steps[:, space.categorical] = 0.0
        if number:
            pace = float(np.clip(pace * math.exp(PACE * np.sign(ranks[0] - ranks[1])), *PACES))
            steps[1] = 0.0  # it told what it was sent for
        count = max(1, space.dimension - int(space.categorical.sum()))
        lengths = np.linalg.norm(steps, axis=1)
        longest = math.sqrt(count) + 2.0 * count / (count + 2.0)
        steps *= np.minimum(1.0, longest / np.maximum(lengths, 1e-300))[:, None]
        taught = utility @ steps / np.linalg.norm(utility)  # variance 1 of a large population
        velocity = self.options.inertia * cloud.velocity + taught
        step = self._rate(pace, number) * scale * velocity
        return Cloud(
            np.clip(cloud.mean + step, 0.0, 1.0),
            velocity,
            cloud.variance * self._growth(steps, utility, velocity, count),
            pace,
            labels,
        )

    def _growth(self, steps: Array, utility: Array, velocity: Array, count: int) -> Array:
        """Return what the variances are multiplied by, (D,): Ros & Hansen (2008), eq. 9."""
        weights = np.maximum(utility, 0.0) / np.maximum(utility, 0.0).sum()
        mass = 1.0 / float(weights @ weights)  # mu_eff
        faster = (count + 2.0) / 3.0
        c_one = min(0.5, faster * 2.0 / ((count + 1.3) ** 2 + mass))
        c_mu = faster * 2.0 * (mass - 2.0 + 1.0 / mass) / ((count + 2.0) ** 2 + mass)
        c_mu = min(1.0 - c_one, max(0.0, c_mu))
        path = (1.0 - self.options.inertia**2) * velocity**2  # 1 where losses say nothing, nearly
        return np.asarray(1.0 - c_one - c_mu + c_one * path + c_mu * (weights @ steps**2))

    def _rate(self, pace: float, number: int) -> float:
        """Return how many deviations the centre moves for each unit of its velocity."""
        return self.options.rate * pace * max(LEAST, 1.0 - number / self._populations)

    def _deviations(self, space: Space, cloud: Cloud, number: int) -> Array:
        """Return the standard deviations with which a population is drawn, (D,)."""
        least = np.where(space.levels > 0, LEAST_BIN / np.maximum(space.levels, 1), 1e-12)
        return np.maximum(least, self.options.spread * np.sqrt(cloud.variance))

    def _deviate(self, space: Space, cloud: Cloud, number: int, member: int) -> Array:
        """Return how many deviations a member lies from the centre, (D,)."""
        if member == 0:
            return np.zeros(space.dimension)
        if member == 1 and number:
            return self._rate(cloud.pace, number) * self.options.inertia * cloud.velocity
        rng = generator(self.seed, number, member // 2, "pair")
        sign = 1.0 if member % 2 else -1.0
        return sign * rng.standard_normal(space.dimension)

    def _labels(self, space: Space, cloud: Cloud, number: int, member: int) -> Array:
        """Return a member's labels, in a position (D,) whose numbers mean nothing."""
        if member == 0 and len(cloud.labels):
            first: Array = cloud.labels[0]
            return first
        rng = generator(self.seed, number, member, "labels")
        fresh: Array
        fresh, jumps = rng.random((2, space.dimension))
        if not len(cloud.labels):
            return fresh
        models = rng.integers(len(cloud.labels), size=space.dimension)
        copied = cloud.labels[models, np.arange(space.dimension)]
        return np.where(jumps < self.options.jump_rate, fresh, copied)
