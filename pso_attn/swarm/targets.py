"""What the surrogate is told of the losses: every trial a finite number, evenly spread.

Failures, pruned trials and losses of wildly different size are made comparable here, and nowhere
else.
"""

import math
from dataclasses import dataclass

import numpy as np

from pso_attn.types import Array

LARGEST = 1e150  # losses beyond are cut, so that their squares stay finite
REACH = 100.0  # median regrets, that are told apart


def comparable(losses: Array, fidelities: Array, violations: Array) -> Array:
    """Return a finite loss for every trial, (n,): what it ended with, or may be taken to be.

    losses: (n,), infinity for a failure. fidelities: (n,), 1 for a full training. violations: of
    constraints, (n,), 0 for none. A pruned trial keeps its last loss, but none better than the
    worst of those that outlived its rung. A failure is as bad as the worst that was seen. What
    breaks constraints is worse, the further it does, by up to the spread of what was seen: the
    feasible before the infeasible, and then the least violation, as Deb (2000) ranks them.
    """
    finite = np.isfinite(losses)
    seen = np.clip(losses, -LARGEST, LARGEST)
    for rung in np.unique(fidelities[finite & (fidelities < 1.0)])[::-1]:
        survivors = finite & (fidelities > rung)
        if survivors.any():
            leavers = finite & (fidelities == rung)
            seen[leavers] = np.maximum(seen[leavers], seen[survivors].max())
    worst = seen[finite].max() if finite.any() else 0.0
    seen[~finite] = worst
    broken = ~finite & (violations > 0.0)
    if broken.any():
        excess = np.minimum(violations[broken], np.finfo(float).max)
        excess = (excess - excess.min()) / excess.max()
        typical = np.median(excess[excess > 0.0]) if excess.any() else 1.0
        spread = float(np.ptp(seen[finite])) if finite.any() else 0.0
        seen[broken] += (spread or 1.0) * excess / (excess + typical)
    return seen


def regrets(losses: Array) -> Array:
    """Return how much worse than the best finite losses (n,) are, (n,): 1 is the median.

    The median is that of those which are worse at all. What is worse than a hundred medians counts
    alike: next to what a diverged training returns, all others would look equal.
    """
    above = losses - losses.min()
    worse = above[above > 0.0]
    if not len(worse):
        return np.zeros_like(losses)
    with np.errstate(over="ignore"):  # a median near the least float
        seen: Array = np.minimum(above / np.median(worse), REACH)
    return seen


@dataclass(frozen=True)
class Warp:
    """How regrets become targets: log(1 + regret / softness), less its middle, over its spread.

    The softer, the more alike are targets and regrets; the less soft, the further apart are those
    near the best. `surrogate.fit` finds which softness makes the process most likely, after
    Snelson, Ghahramani & Rasmussen (2004), Warped Gaussian Processes. Order is kept.
    """

    softness: float
    middle: float
    spread: float

    @classmethod
    def of(cls, regrets: Array, softness: float) -> "Warp":
        """Return the warp under which regrets (n,) have mean 0 and spread 1, or all are 0."""
        bent = np.log1p(regrets / softness)
        return cls(softness, float(np.mean(bent)), float(np.std(bent)) or 1.0)

    def targets(self, regrets: Array) -> Array:
        """Return the targets of regrets (n,)."""
        warped: Array = (np.log1p(regrets / self.softness) - self.middle) / self.spread
        return warped

    def log_slope(self, regrets: Array) -> float:
        """Return the sum of log d target / d regret over the regrets (n,) it was made of."""
        steep = -float(np.sum(np.log(self.softness + regrets)))
        return steep - len(regrets) * math.log(self.spread)

    def by_softness(self, regrets: Array) -> tuple[Array, float]:
        """Return the derivatives of targets (n,) and `log_slope` by the softness' logarithm."""
        bent = -regrets / (self.softness + regrets)
        bent -= np.mean(bent)
        targets = self.targets(regrets)
        widening = float(np.mean(targets * bent)) / self.spread  # of the spread, relative to it
        steep = -float(np.sum(self.softness / (self.softness + regrets)))
        return bent / self.spread - targets * widening, steep - len(regrets) * widening
