"""Who leaves early: successive halving's idea, on what a particle's own chunk and the past show.

Jamieson & Talwalkar 2016, arXiv 1502.07943; asynchronous in Li et al. 2018, arXiv 1810.05934.
Here the worst third leaves, and siblings in other chunks are never asked, so that the outcome
does not depend on which chunks run at the same time.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan

from pso_attn.types import Budget, History

CURVE_POINTS = 8  # a training is scored at least this often


def rung_steps(budget: Budget) -> tuple[int, ...]:
    """Return the steps of the rungs below 1, ascending."""
    steps = {max(1, round(rung * budget.steps)) for rung in budget.rungs if rung < 1}
    return tuple(sorted(step for step in steps if step < budget.steps))


def scored_steps(budget: Budget) -> tuple[int, ...]:
    """Return the steps after which all particles are scored: the rungs and an even curve."""
    even = {max(1, round(budget.steps * k / CURVE_POINTS)) for k in range(1, CURVE_POINTS + 1)}
    return tuple(sorted(even | set(rung_steps(budget)) | {budget.steps}))


@dataclass(frozen=True)
class Earlier:
    """What earlier generations lost at a rung, as much of it as decides about one chunk.

    count: of all losses. near: some of them, ascending. below: how many come before those.
    """

    count: int = 0
    below: int = 0
    near: tuple[float, ...] = ()

    @classmethod
    def of(cls, ascending: Sequence[float], most: int) -> "Earlier":
        """Return it for a chunk of so many particles at most, of all losses in order.

        A particle leaves where n losses in all (N of them here) are at least 2/3 below its own. Of
        those of its chunk between none and all others are, so that only the n-th here from
        (2 N - most) / 3 to 2 (N + most) / 3 are ever decisive.
        """
        count = len(ascending)
        first = max(0, (2 * count - most) // 3)
        return cls(count, first, tuple(ascending[first : 2 * (count + most) // 3 + 1]))

    def better(self, loss: float) -> int:
        """Return how many are below a loss, or as many as decide the same."""
        return self.below + bisect_left(self.near, loss)


def losses_at(history: History, step: int) -> list[float]:
    """Return the losses that earlier generations stored at a step, ascending."""
    objective = history.objectives[0]
    losses = (
        objective.loss(trial.outcome.curve[step])
        for trial in history.trials
        if step in trial.outcome.curve
    )
    return sorted(inf if isnan(loss) else loss for loss in losses)


def leavers(losses: Sequence[float], earlier: Earlier) -> list[bool]:
    """Tell which particles leave: those in the worst third of them all; ties stay.

    losses: of the particles still training together. None leaves a pool of fewer than three.
    """
    pool = len(losses) + earlier.count
    if pool < 3:
        return [False] * len(losses)
    better = (sum(other < loss for other in losses) + earlier.better(loss) for loss in losses)
    return [3 * count >= 2 * pool for count in better]
