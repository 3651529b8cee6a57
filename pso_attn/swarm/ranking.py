"""In which order trials stand: fidelity first, then loss, failures last."""

from collections.abc import Sequence

import numpy as np

from pso_attn.types import Array, History, State, Trial

Merit = tuple[float, float]


def merit(history: History, trial: Trial) -> Merit:
    """Return what trials are ranked by, ascending: (-fidelity, loss), (0, infinity) if it failed.

    A pruned loss stands behind every full one.
    """
    loss = history.loss(trial)
    if trial.outcome.state is State.FAIL or not np.isfinite(loss):
        return 0.0, float("inf")
    return -fidelity(trial), loss


def fidelity(trial: Trial) -> float:
    """Return the fraction of the steps that the loss stands for; below 1 unless it is full."""
    return 1.0 if trial.is_full else min(trial.outcome.fidelity, 1.0 - 1e-9)


def shared_ranks(merits: Sequence[Merit]) -> Array:
    """Return the rank of each, (n,), from 0, the best; equals share their mean rank."""
    _, place, counts = np.unique(np.array(merits), axis=0, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means = last - (counts + 1.0) / 2.0
    return np.asarray(means[place.reshape(-1)])
