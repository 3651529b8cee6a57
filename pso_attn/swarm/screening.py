"""Which of many moves promises most: expected improvement, with those already chosen in mind."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from pso_attn.swarm.surrogate import Surrogate
from pso_attn.types import Array

_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a surrogate expects at m points, (m,) each; some of them may be taken as evaluated.

    whitened: (n + k, m), the Cholesky factor's inverse times the covariance with the n points
    that were evaluated and the k that are taken to be.
    """

    surrogate: Surrogate
    points: Array
    mean: Array
    variance: Array
    whitened: Array

    @classmethod
    def of(cls, surrogate: Surrogate, points: Array) -> "Forecast":
        """Return the forecast at points (m, D)."""
        whitened = surrogate.whitened(points)
        variance = surrogate.variance(points) - np.sum(whitened * whitened, axis=0)
        return cls(surrogate, points, surrogate.mean(points), _positive(variance), whitened)

    @classmethod
    def swept(cls, surrogate: Surrogate, points: Array) -> "Forecast":
        """Return the same but for rounding, in half the time for very many points."""
        whitened = surrogate.whitened(points)
        variance = surrogate.variance(points) - np.einsum("nm,nm->m", whitened, whitened)
        mean = (np.tril(surrogate.factor).T @ surrogate.weights) @ whitened  # L^-1 y = L^T K^-1 y
        return cls(surrogate, points, mean, _positive(variance), whitened)

    def pretending(self, index: int) -> "Forecast":
        """Return the forecast as if that point had been evaluated and had met its mean.

        One more row of the Cholesky factor. No mean changes, so only the variances are updated:
        the "kriging believer" of Ginsbourger, Le Riche & Carraro (2010), eq. 20.
        """
        prior = self.surrogate.covariance(self.points[index : index + 1], self.points)[0]
        covariance = prior - self.whitened[:, index] @ self.whitened
        deviation = math.sqrt(self.variance[index] + self.surrogate.hyperparameters.noise)
        row = covariance / deviation
        return replace(
            self,
            variance=_positive(self.variance - row * row),
            whitened=np.vstack((self.whitened, row)),
        )

    def promise(self, best: float) -> Array:
        """Return the logarithm of the expected improvement on `best` at each point, (m,)."""
        deviation = np.sqrt(self.variance)
        return log_improvement((best - self.mean) / deviation) + np.log(deviation)


def chosen_moves(
    forecast: Forecast,
    feasible: NDArray[np.bool_],
    names: list[bytes],
    known: set[bytes],
    best: float,
    order: NDArray[np.intp],
) -> NDArray[np.intp]:
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


def log_improvement(z: Array) -> Array:
    """Return log(phi(z) + z Phi(z)), exact far below 0: Ament et al. (2023), eq. 9 and 14.

    z: how many deviations the mean is better than the best.
    """
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near - _LOG_ROOT_TAU)
    far = np.minimum(z, -1.0)
    ratio = math.sqrt(0.5 * math.pi) * -far * erfcx(-far / math.sqrt(2.0))  # -> 1 - 1 / z^2
    shortfall = np.where(far < -1e5, 1.0 / (far * far), np.maximum(1.0 - ratio, 1e-300))
    tail = -0.5 * far * far - _LOG_ROOT_TAU + np.log(shortfall)
    return np.where(z > -1.0, np.log(density + near * ndtr(near)), tail)


def _positive(variance: Array) -> Array:
    return np.maximum(variance, 1e-12)
