"""A Gaussian process over evaluated points: what a loss is likely to be where nobody looked yet.

Matérn 5/2 with one length scale a coordinate, and a quadratic trend: Rasmussen & Williams (2006),
Gaussian Processes for Machine Learning, eqs. 2.25, 2.26, 4.17, 5.8 and 5.9. Two different labels
are at distance 1 from each other, as one-hot vectors divided by the root of 2 would be: no order
is invented.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize

from pso_attn.swarm.targets import Warp
from pso_attn.swarm.trend import equal_labels, row_blocks, trend, trend_variance
from pso_attn.types import Array

Flags = NDArray[np.bool_]

ITERATIONS = 25  # of L-BFGS
SCALE_MEDIAN, SCALE_SPREAD = 0.4, 1.0  # log-normal prior; the median times the root of D
VARIANCE_MEDIAN, VARIANCE_SPREAD = 1.0, 1.0
NOISE_MEDIAN, NOISE_SPREAD = 1e-4, 2.5
TREND_MEDIAN, TREND_SPREAD = 0.5, 2.0
SOFTNESS_MEDIAN, SOFTNESS_SPREAD = 1.0, 0.7
SCALES, VARIANCES = (1e-2, 1e3), (1e-2, 1e2)  # what is admitted
NOISES, TRENDS, SOFTNESSES = (1e-6, 1.0), (1e-6, 1e2), (0.1, 1e2)
FIRST_NOISE = 1e-2  # every fit begins there and at the other medians


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """What a process is like, for targets of spread 1. scales: (D,), lengths.

    variance: of what the scales are the lengths of. noise: its variance. trend: that of a trend.
    """

    scales: Array
    variance: float
    noise: float
    trend: float

    @classmethod
    def of(cls, logarithms: Array) -> "Hyperparameters":
        """Return those of (D + 3,) logarithms: scales, variance, noise, trend."""
        variance, noise, trend = map(float, np.exp(logarithms[-3:]))
        return cls(np.exp(logarithms[:-3]), variance, noise, trend)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Points, (n, D), and their squared distances to each other, one row for each pair i > j.

    labels: (D,). squares: (n (n - 1) / 2, D), in the order of `np.tril_indices(n, -1)`. places:
    where each pair stands in a matrix (n, n) that is stored column by column. trends:
    (n (n - 1) / 2,), the covariance of a trend of size 1. own_trends: (n,), its variance at each
    point.
    """

    points: Array
    labels: Flags
    squares: Array
    places: NDArray[np.intp]
    trends: Array
    own_trends: Array

    @classmethod
    def of(cls, points: Array, labels: Flags) -> "Pairs":
        """Return the pairs of points (n, D)."""
        rows, columns = np.tril_indices(len(points), -1)
        one, other = points[rows], points[columns]
        squares = np.square(one - other)
        squares[:, labels] = one[:, labels] != other[:, labels]
        trends = trend(points, points, labels)[rows, columns]
        own_trends = trend_variance(points, labels)
        return cls(points, labels, squares, columns * len(points) + rows, trends, own_trends)

    def covariance(self, correlated: Array, shape: Hyperparameters) -> Array:
        """Return the targets' covariance as a lower triangle (n, n), above it nothing of meaning.

        correlated: (n (n - 1) / 2,), the part of it that falls with distance.
        """
        count = len(self.own_trends)
        column_by_column = np.zeros(count * count)
        column_by_column[self.places] = correlated + shape.trend * self.trends
        own = shape.variance + shape.noise + shape.trend * self.own_trends
        column_by_column[:: count + 1] = own
        return column_by_column.reshape((count, count), order="F")

    def entries(self, matrix: Array) -> Array:
        """Return the entries of a matrix (n, n) below its diagonal, one for each pair."""
        return matrix.ravel(order="F")[self.places]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A process given targets at points.

    points: (n, D). labels: (D,). factor: lower Cholesky factor of the targets' covariance.
    weights: (n,), the inverse of that covariance times the targets.
    """

    points: Array
    labels: Flags
    hyperparameters: Hyperparameters
    factor: Array
    weights: Array

    @cached_property
    def whitened_targets(self) -> Array:
        """The factor's inverse times the targets, (n,): L^-1 y = L^T K^-1 y."""
        return np.asarray(np.tril(self.factor).T @ self.weights)

    def covariance(self, one: Array, other: Array) -> Array:
        """Return the prior covariance of points (m, D) and (k, D), (m, k)."""
        scaled = 1.0 / np.square(self.hyperparameters.scales)
        numbers = ~self.labels
        roots = np.sqrt(scaled[numbers])
        a, b = one[:, numbers] * roots, other[:, numbers] * roots
        sizes, other_sizes = np.sum(a * a, axis=1)[:, None], np.sum(b * b, axis=1)
        found: Array = 2.0 * a @ b.T
        shared = trend(one, other, self.labels)
        weighed = zip(scaled[self.labels], equal_labels(one, other, self.labels), strict=True)
        tables = [(weight * ~equal, places) for weight, (equal, places) in weighed]
        for rows in row_blocks(found):
            squares = sizes[rows] + other_sizes - found[rows]
            for distances, places in tables:
                squares += distances[places[rows]]
            correlation = _matern(np.sqrt(np.maximum(5.0 * squares, 0.0)))
            found[rows] = self.hyperparameters.variance * correlation
            found[rows] += self.hyperparameters.trend * shared[rows]
        return found

    def variance(self, points: Array) -> Array:
        """Return the prior variance at points (m, D), (m,)."""
        shared = self.hyperparameters.trend * trend_variance(points, self.labels)
        return self.hyperparameters.variance + shared

    def mean(self, points: Array) -> Array:
        """Return the expected targets at points (m, D), (m,)."""
        return self.covariance(points, self.points) @ self.weights

    def whitened(self, points: Array) -> Array:
        """Return the factor's inverse times the covariance with points (m, D), (n, m)."""
        covariance = self.covariance(points, self.points).T  # as LAPACK has matrices: no copy
        return np.asarray(
            solve_triangular(
                self.factor, covariance, lower=True, overwrite_b=True, check_finite=False
            )
        )


def fit(points: Array, labels: Flags, regrets: Array) -> tuple[Surrogate, Warp]:
    """Return the process of the most probable hyperparameters, and how it sees the regrets.

    points: (n, D) in the unit cube. regrets: (n,), see `targets.regrets`. L-BFGS from a fixed
    start, so that the result is a function of the arguments alone.
    """
    dimension = points.shape[1]
    pairs = Pairs.of(points, labels)
    start = np.log([*_medians(dimension)[:-2], FIRST_NOISE, TREND_MEDIAN, SOFTNESS_MEDIAN])
    bounds = np.log([*[SCALES] * dimension, VARIANCES, NOISES, TRENDS, SOFTNESSES])
    found = minimize(
        lambda at: tuple(-part for part in log_warped_posterior(at, pairs, regrets)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": ITERATIONS},
    )
    warp = Warp.of(regrets, math.exp(found.x[-1]))
    shape = Hyperparameters.of(found.x[:-1])
    return given(pairs, warp.targets(regrets), shape), warp


def given(pairs: Pairs, targets: Array, hyperparameters: Hyperparameters) -> Surrogate:
    """Return the process of these hyperparameters, conditioned on the targets (n,)."""
    distances = np.sqrt(5.0 * (pairs.squares @ hyperparameters.scales**-2.0))
    correlated = hyperparameters.variance * _matern(distances)
    factor = _factor(pairs.covariance(correlated, hyperparameters))
    weights, _ = lapack.dpotrs(factor, targets, lower=1)
    return Surrogate(pairs.points, pairs.labels, hyperparameters, factor, weights)


def log_warped_posterior(logarithms: Array, pairs: Pairs, regrets: Array) -> tuple[float, Array]:
    """Return the log posterior of a process of warped regrets (n,), and its gradient (D + 4,).

    logarithms: (D + 4,), those of `Hyperparameters.of` and of the warp's softness. The priors are
    without the constants.
    """
    warp = Warp.of(regrets, math.exp(logarithms[-1]))
    targets = warp.targets(regrets)
    likelihood, slope, by_target = log_marginal_likelihood(logarithms[:-1], pairs, targets)
    bent, steeper = warp.by_softness(regrets)
    dimension = len(logarithms) - 4
    spreads = [SCALE_SPREAD] * dimension
    spreads += [VARIANCE_SPREAD, NOISE_SPREAD, TREND_SPREAD, SOFTNESS_SPREAD]
    off = (logarithms - np.log([*_medians(dimension), SOFTNESS_MEDIAN])) / spreads
    value = likelihood + warp.log_slope(regrets) - 0.5 * float(off @ off)
    return value, np.append(slope, by_target @ bent + steeper) - off / spreads


def log_marginal_likelihood(
    logarithms: Array, pairs: Pairs, targets: Array
) -> tuple[float, Array, Array]:
    """Return the log density of the targets (n,) and its gradients: eqs. 5.8 and 5.9.

    By the logarithms, (D + 3,) as in `Hyperparameters.of`, and by the targets, (n,).
    """
    shape = Hyperparameters.of(logarithms)
    inverse_squares = shape.scales**-2.0
    distances = np.sqrt(5.0 * (pairs.squares @ inverse_squares))
    decay = shape.variance * np.exp(-distances)
    correlated = decay * (1.0 + distances + distances * distances / 3.0)
    factor = _factor(pairs.covariance(correlated, shape))
    weights, _ = lapack.dpotrs(factor, targets, lower=1)
    likelihood = (
        -0.5 * float(targets @ weights)
        - float(np.sum(np.log(np.diag(factor))))
        - 0.5 * len(targets) * math.log(2.0 * math.pi)
    )
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    own = weights * weights - np.diag(inverse)
    pulls = pairs.entries(np.outer(weights, weights).T - inverse)
    by_scale = (pulls * decay * (1.0 + distances) * (5.0 / 3.0)) @ pairs.squares * inverse_squares
    by_variance = float(pulls @ correlated) + 0.5 * shape.variance * float(own.sum())
    by_noise = 0.5 * shape.noise * float(own.sum())
    by_trend = shape.trend * float(pulls @ pairs.trends + 0.5 * own @ pairs.own_trends)
    return likelihood, np.array([*by_scale, by_variance, by_noise, by_trend]), -weights


def _matern(distances: Array) -> Array:
    """Return the correlation at distances that the root of 5 was multiplied to: eq. 4.17."""
    correlation: Array = np.exp(-distances) * (1.0 + distances + distances * distances / 3.0)
    return correlation


def _factor(matrix: Array) -> Array:
    """Return the Cholesky factor of a lower triangle, which is overwritten."""
    factor, failed = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    assert failed == 0, "the least noise admitted keeps the matrix positive definite"
    return np.asarray(factor)


def _medians(dimension: int) -> list[float]:
    """Return the prior's medians, in the order of `Hyperparameters.of`."""
    scale = SCALE_MEDIAN * math.sqrt(dimension)
    return [*[scale] * dimension, VARIANCE_MEDIAN, NOISE_MEDIAN, TREND_MEDIAN]
