"""What the surrogate is told of the losses: every trial a finite number, evenly spread.

Failures, pruned trials and losses of wildly different size are made comparable here, and nowhere
else.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from pso_attn.types import Array

LARGEST = 1e150  # losses beyond are cut, so that their squares stay finite
REACH = 100.0  # losses above the median, in distances of the best from it, that are told apart
POWERS = (-3.0, 2.0)  # of the Yeo-Johnson transformation


def comparable(losses: Array, fidelities: Array) -> Array:
    """Return a finite loss for every trial, (n,): what it ended with, or may be taken to be.

    losses: (n,), infinity for a failure. fidelities: (n,), 1 for a full training. A pruned trial
    keeps its last loss, but none better than the worst of those that outlived its rung. A
    failure is as bad as the worst that was seen.
    """
    finite = np.isfinite(losses)
    seen = np.clip(losses, -LARGEST, LARGEST)
    for rung in np.unique(fidelities[finite & (fidelities < 1.0)])[::-1]:
        survivors = finite & (fidelities > rung)
        if survivors.any():
            leavers = finite & (fidelities == rung)
            seen[leavers] = np.maximum(seen[leavers], seen[survivors].max())
    seen[~finite] = seen[finite].max() if finite.any() else 0.0
    return seen


def normalised(losses: Array) -> Array:
    """Return finite losses (n,) as targets of mean 0 and spread 1, near to normal; order is kept.

    Standardise, transform by the most likely power, standardise again. Equal losses are all 0.
    Losses that are further above the median than a hundred times the best is below it count alike:
    next to what a diverged training returns, all others would look equal.
    """
    middle = float(np.median(losses))
    spread = standardised(np.minimum(losses, middle + REACH * (middle - losses.min())))
    return standardised(yeo_johnson(spread, likeliest_power(spread)))


def standardised(values: Array) -> Array:
    """Return values (n,) with mean 0 and standard deviation 1, or 0 where all are equal."""
    if np.ptp(values) == 0.0:
        return np.zeros_like(values)
    centred = values - np.mean(values)
    centred /= np.abs(centred).max()  # what squares to 0 or infinity would not
    scaled: Array = centred / np.std(centred)
    return scaled


def yeo_johnson(values: Array, power: float) -> Array:
    """Return the transformed values (n,); it is increasing: Yeo & Johnson (2000), eq. 2.1."""
    upper, lower = np.log1p(np.maximum(values, 0.0)), np.log1p(np.maximum(-values, 0.0))
    return _powered(upper, power) - _powered(lower, 2.0 - power)


def likeliest_power(values: Array) -> float:
    """Return the power in [-3, 2] under which values (n,) look most normal: their eq. 3.1."""
    if np.ptp(values) == 0.0:
        return 1.0
    slope = float(np.sum(np.sign(values) * np.log1p(np.abs(values))))

    def unlikeliness(power: float) -> float:
        variance = float(np.var(yeo_johnson(values, power)))
        if variance <= 0.0:  # squeezed beyond what floats can tell apart
            return math.inf
        return 0.5 * len(values) * math.log(variance) - (power - 1.0) * slope

    found = minimize_scalar(unlikeliness, bounds=POWERS, method="bounded", options={"xatol": 1e-3})
    return float(found.x)


def _powered(logarithms: Array, power: float) -> Array:
    """Return ((1 + x)^power - 1) / power from log(1 + x), continuous at power 0."""
    if abs(power) < 1e-8:
        return logarithms
    return np.expm1(power * logarithms) / power
