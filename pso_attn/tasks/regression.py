"""Errors of predicted numbers, of many particles at once: the particle axis comes first and stays.

answers: (N, B). targets: (N or 1, B), shared by all particles where the first is 1.
"""

from torch import Tensor


def mean_squared_error(answers: Tensor, targets: Tensor) -> Tensor:
    """Return each particle's mean squared error, (N,)."""
    return (answers - targets).square().mean(dim=1)


def mean_absolute_error(answers: Tensor, targets: Tensor) -> Tensor:
    """Return each particle's mean absolute error, (N,)."""
    return (answers - targets).abs().mean(dim=1)


def r_squared(answers: Tensor, targets: Tensor) -> Tensor:
    """Return the share of the targets' variance that each particle explains, (N,); 1 at best.

    Finite for equal targets too, and then far below 0 unless every answer is right.
    """
    around = targets - targets.mean(dim=1, keepdim=True)
    variance = around.square().mean(dim=1).clamp_min(1e-12)
    return 1 - mean_squared_error(answers, targets) / variance
