"""Moves from a learned normal distribution: where the whole swarm looks, in place of velocities.

The distribution is that of CMA-ES: Hansen (2016), The CMA Evolution Strategy: A Tutorial,
arXiv 1604.00772, whose equations are cited by number; without negative weights. What it learns
from was chosen by a surrogate, repaired or a start: far steps are shortened as those of injected
solutions are, Hansen (2011), Injecting External Solutions Into CMA-ES, arXiv 1110.4181, eq. 3.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pso_attn.space import Space
from pso_attn.swarm.draws import START_SPREAD, centre, kept_inside
from pso_attn.swarm.ledger import Ledger
from pso_attn.swarm.standing import Standing, standing_of
from pso_attn.swarm.targets import comparable
from pso_attn.types import Array, History, Trial

SIGMAS = (1e-8, 0.5)  # what is admitted
LEAST_SPREAD = 0.35  # of a bin: the least standard deviation of a discrete number
FIRST_AGREEMENT, AGREEMENT_RATE = 0.3, 0.3
ELITE = 0.2  # share of the trials whose labels are copied


@dataclass(frozen=True, eq=False)
class Distribution:
    """m + sigma N(0, C) over K numbers, with CMA-ES' evolution paths.

    mean, sigma_path, path: (K,). covariance: (K, K). updates: how many it went through.
    """

    mean: Array
    sigma: float
    covariance: Array
    sigma_path: Array
    path: Array
    updates: int = 0

    @classmethod
    def around(cls, mean: Array) -> "Distribution":
        """Return the distribution that a swarm's start is drawn from."""
        none = np.zeros_like(mean)
        return cls(mean, START_SPREAD, np.eye(len(mean)), none, none)

    def drawn(self, count: int, rng: np.random.Generator) -> Array:
        """Return so many draws, (count, K): eqs. 38 to 40."""
        basis, roots = self._axes
        deviates = rng.normal(size=(count, len(self.mean)))
        return self.mean + self.sigma * (deviates * roots) @ basis.T

    def told(self, ranked: Array, size: int, least: Array) -> "Distribution":
        """Return the distribution after a population of `size`: eqs. 41 to 47.

        ranked: (n, K), its members that did not fail, best first. least: (K,), standard
        deviations below which none falls. Of no members, or no numbers, nothing is learned.
        """
        count = len(self.mean)
        weights = recombination_weights(size)[: len(ranked)]
        if not len(weights) or not count:
            return self
        weights = weights / weights.sum()
        mass = 1.0 / float(weights @ weights)  # mu_eff, eq. 8
        basis, roots = self._axes
        steps = (ranked[: len(weights)] - self.mean) / self.sigma
        lengths = np.linalg.norm(steps @ basis / roots, axis=1)
        longest = math.sqrt(count) + 2.0 * count / (count + 2.0)
        steps *= np.minimum(1.0, longest / np.maximum(lengths, 1e-300))[:, None]
        step = weights @ steps  # eq. 41

        c_sigma = (mass + 2.0) / (count + mass + 5.0)  # eq. 55
        damping = 1.0 + 2.0 * max(0.0, math.sqrt((mass - 1.0) / (count + 1.0)) - 1.0) + c_sigma
        whitened = basis @ (basis.T @ step / roots)
        sigma_path = (1.0 - c_sigma) * self.sigma_path  # eq. 43
        sigma_path = sigma_path + math.sqrt(c_sigma * (2.0 - c_sigma) * mass) * whitened
        expected = math.sqrt(count) * (1.0 - 1.0 / (4.0 * count) + 1.0 / (21.0 * count * count))
        ratio = float(np.linalg.norm(sigma_path)) / expected
        sigma = self.sigma * math.exp(c_sigma / damping * (ratio - 1.0))  # eq. 44

        c_path = (4.0 + mass / count) / (count + 4.0 + 2.0 * mass / count)  # eq. 56
        c_one = 2.0 / ((count + 1.3) ** 2 + mass)  # eq. 57
        c_mu = 2.0 * (mass - 2.0 + 1.0 / mass) / ((count + 2.0) ** 2 + mass)  # eq. 58
        c_mu = min(1.0 - c_one, c_mu)
        updates = self.updates + 1
        grown = math.sqrt(1.0 - (1.0 - c_sigma) ** (2 * updates))
        going = float(ratio < (1.4 + 2.0 / (count + 1.0)) * grown)  # h_sigma
        path = (1.0 - c_path) * self.path  # eq. 45
        path = path + going * math.sqrt(c_path * (2.0 - c_path) * mass) * step
        lost = c_one * (1.0 - going) * c_path * (2.0 - c_path)
        covariance = (  # eq. 47
            (1.0 + lost - c_one - c_mu) * self.covariance
            + c_one * np.outer(path, path)
            + c_mu * (steps.T * weights) @ steps
        )
        mean = self.mean + self.sigma * step  # eq. 42
        sigma = float(np.clip(sigma, *SIGMAS))
        spreads = sigma * np.sqrt(np.diag(covariance))
        widened = np.maximum(1.0, least / np.maximum(spreads, 1e-300))
        covariance = covariance * np.outer(widened, widened)
        return Distribution(mean, sigma, covariance, sigma_path, path, updates)

    @cached_property
    def _axes(self) -> tuple[Array, Array]:
        """Return B (K, K) and the diagonal of D (K,), where C = B D^2 B^T."""
        squares, basis = np.linalg.eigh(self.covariance)
        least = 1e-14 * squares.max(initial=0.0)
        return basis, np.sqrt(np.maximum(squares, least))


def recombination_weights(size: int) -> Array:
    """Return the weights of the better half of a population, (size // 2,): eq. 49."""
    return math.log((size + 1) / 2.0) - np.log(np.arange(1, size // 2 + 1))


@dataclass(frozen=True, eq=False)
class Learned:
    """What a swarm knows that moves by its distribution, folded from history.

    Trials are told in populations, of a swarm's worth or the least number of whole batches
    beyond. agreement: running rank correlation (Kendall's) of what the surrogate expected of a
    population before its first trial with what came. standing: after the latest population.
    told: trials that were told.
    """

    ledger: Ledger
    distribution: Distribution
    agreement: float = FIRST_AGREEMENT
    standing: Standing | None = None
    told: int = 0

    @classmethod
    def first(cls, space: Space) -> "Learned":
        """Return what is known before anything was evaluated."""
        numbers = ~space.categorical
        return cls(Ledger.empty(space.dimension), Distribution.around(centre(space)[numbers]))

    def extended(
        self, space: Space, trials: tuple[Trial, ...], history: History, particles: int
    ) -> "Learned":
        """Return what is known after one more generation."""
        ledger = self.ledger.extended(space, trials, history)
        size = len(ledger) - self.told
        if size < particles:
            return replace(self, ledger=ledger)
        standing = standing_of(ledger, space.categorical, particles)
        ranks = standing.ranks[self.told :]
        ranked = ledger.positions[self.told :][np.argsort(ranks, kind="stable")]
        ranked = ranked[: np.isfinite(ranks).sum(), ~space.categorical]
        levels = space.levels[~space.categorical]
        least = np.where(levels > 0, LEAST_SPREAD / np.maximum(levels, 1), 0.0)
        return Learned(
            ledger,
            self.distribution.told(ranked, size, least),
            self._agreement(ledger),
            standing,
            len(ledger),
        )

    def current(self, space: Space, particles: int) -> Standing:
        """Return where the swarm stands after all trials, those not yet told among them."""
        if self.standing is not None and self.told == len(self.ledger):
            return self.standing
        return standing_of(self.ledger, space.categorical, particles)

    def moves(
        self,
        space: Space,
        standing: Standing,
        most: int,
        jump_rate: float,
        rng: np.random.Generator,
    ) -> Array:
        """Return places where any particle may go, (m, D); the truer the surrogate was, the more.

        m: 1 + `most` times the agreement, rounded. Numbers: drawn from the distribution, kept
        inside as velocities' moves are. Labels: each copied from some trial of the best fifth; at
        `jump_rate` a uniform one.
        """
        count = 1 + round(most * max(0.0, self.agreement))
        shape = (count, space.dimension)
        drawn, jumps = rng.random((2, *shape))
        able = int(np.isfinite(standing.ranks).sum())
        if able:
            elite = np.argsort(standing.ranks, kind="stable")[: math.ceil(ELITE * able)]
            models = elite[rng.integers(len(elite), size=shape)]
            copied = self.ledger.positions[models, np.arange(space.dimension)]
            drawn = np.where(jumps < jump_rate, drawn, copied)
        numbers = kept_inside(self.distribution.drawn(count, rng), rng)
        drawn[:, ~space.categorical] = numbers
        return space.snap(drawn)

    def _agreement(self, ledger: Ledger) -> float:
        """Return the agreement after the trials that this was not told of."""
        if self.standing is None:
            return self.agreement
        from scipy.stats import kendalltau  # takes longer to import than a command may to start

        expected = self.standing.surrogate.mean(ledger.points[self.told :])
        came = comparable(ledger.losses, ledger.fidelities, ledger.violations)[self.told :]
        correlation = float(kendalltau(expected, came).statistic)
        seen = correlation if math.isfinite(correlation) else 0.0  # all of one value
        return (1.0 - AGREEMENT_RATE) * self.agreement + AGREEMENT_RATE * seen
