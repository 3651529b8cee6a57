"""Who leaves early: successive halving's idea, on what a particle's own chunk and the past show.

Jamieson & Talwalkar 2016, arXiv 1502.07943; asynchronous in Li et al. 2018, arXiv 1810.05934.
Here the worst third leaves, and siblings in other chunks are never asked, so that the outcome
does not depend on which chunks run at the same time.
"""

from collections.abc import Sequence

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


def losses_at(history: History, step: int) -> list[float]:
    """Return the losses that earlier generations stored at a step."""
    objective = history.objectives[0]
    return [
        objective.loss(trial.outcome.curve[step])
        for trial in history.trials
        if step in trial.outcome.curve
    ]


def leavers(losses: Sequence[float], earlier: Sequence[float]) -> list[bool]:
    """Tell which particles leave: those in the worst third of them all; ties stay.

    losses: of the particles still training together. None leaves a pool of fewer than three.
    """
    pool = [*losses, *earlier]
    if len(pool) < 3:
        return [False] * len(losses)
    return [3 * sum(other < loss for other in pool) >= 2 * len(pool) for loss in losses]
