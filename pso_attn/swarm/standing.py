"""What the swarm makes of its ledger: how good each trial is held to be, and who leads."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pso_attn.swarm.ledger import Ledger
from pso_attn.swarm.surrogate import Surrogate, fit
from pso_attn.swarm.targets import comparable, regrets
from pso_attn.types import Array

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

NOISE_TRUSTED = 0.05  # share of the spread that is noise from which on only the model counts
POINTS = 400  # that the surrogate is fitted to at most,
ENTRIES = 4_000_000  # and what their pairs may take, times D: less than 400 points from D = 50 on
MANY = 5_000  # trials, beyond which the model is not asked at all of them
SLIGHT = 0.1  # where it counts so little


@dataclass(frozen=True, eq=False)
class Standing:
    """What the swarm makes of its ledger; P particles.

    targets: (n,), what the surrogate was told of the trials. ranks: (n,), from 0, by the
    targets, the less trusted the noisier they are; infinity for a failure. best: what is to be
    improved on, the least that the surrogate expects where a full trial was, or any. bests: (P,),
    each particle's best trial. costs: (P,), its rank; infinity without one.
    """

    surrogate: Surrogate
    targets: Array
    ranks: Array
    best: float
    bests: Indices
    costs: Array

    @property
    def is_noisy(self) -> bool:
        """Whether so much of the losses' spread is noise that only the model is trusted."""
        return self.surrogate.hyperparameters.noise >= NOISE_TRUSTED


def standing_of(ledger: Ledger, labels: Flags, particles: int, points: int = POINTS) -> Standing:
    """Return where a swarm of so many particles stands after at least one trial.

    Fidelity comes before merit, and a failure is nobody's best. labels: (D,), the coordinates
    that hold one. points: that the surrogate is fitted to at most; silent trials are none of them.
    """
    silent = ledger.silent
    losses = comparable(ledger.losses, ledger.fidelities, ledger.violations)
    seen = regrets(losses[silent:])
    seen = np.append(np.full(silent, seen.max()), seen)
    kept = silent + _kept(seen[silent:], ledger.points.shape[1], points)
    surrogate, warp = fit(ledger.points[kept], labels, seen[kept])
    targets = warp.targets(seen)
    trust = min(1.0, surrogate.hyperparameters.noise / NOISE_TRUSTED)
    merits = targets
    if len(targets) <= MANY or trust > SLIGHT:
        merits = (1.0 - trust) * targets + trust * surrogate.mean(ledger.points)
    order = np.lexsort((merits, -ledger.fidelities, ~np.isfinite(ledger.losses)))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    ranks[~np.isfinite(ledger.losses)] = np.inf
    full = np.isfinite(ledger.losses) & (ledger.fidelities == 1.0)
    expected = targets[kept] - surrogate.hyperparameters.noise * surrogate.weights
    best = float(expected[full[kept]].min() if full[kept].any() else expected.min())
    bests, costs = np.zeros(particles, dtype=np.intp), np.full(particles, np.inf)
    worst_first = order[::-1]  # of those of one particle the last that is written stays
    bests[ledger.particles[worst_first]] = worst_first
    costs[ledger.particles[worst_first]] = ranks[worst_first]
    return Standing(surrogate, targets, ranks, best, bests, costs)


def _kept(seen: Array, dimension: int, points: int) -> Indices:
    """Return which trials the surrogate is fitted to, in order: all of up to so many points.

    Of more, half are the best, a quarter the latest, the rest evenly by regret from what is left,
    so that it knows where it is bad as well. Fewer points in many dimensions.
    """
    count = len(seen)
    most = min(points, int(math.sqrt(2.0 * ENTRIES / dimension)))
    if count <= most:
        return np.arange(count)
    by_regret = np.argsort(seen, kind="stable")
    chosen = np.zeros(count, dtype=bool)
    chosen[by_regret[: most // 2]] = True
    chosen[-(most // 4) :] = True
    left = by_regret[~chosen[by_regret]]
    chosen[left[np.linspace(0, len(left) - 1, most - chosen.sum()).astype(np.intp)]] = True
    return np.flatnonzero(chosen)
