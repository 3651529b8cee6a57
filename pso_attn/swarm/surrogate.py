"""A Gaussian process over evaluated points: what a loss is likely to be where nobody looked yet.

Matérn 5/2 with one length scale a coordinate: Rasmussen & Williams (2006), Gaussian Processes
for Machine Learning, eqs. 2.25, 2.26, 4.17, 5.8 and 5.9. Two different labels are at distance 1
from each other, as one-hot vectors divided by the root of 2 would be: no order is invented.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize

from pso_attn.types import Array

Flags = NDArray[np.bool_]

ITERATIONS = 25  # of L-BFGS
SCALE_MEDIAN, SCALE_SPREAD = 0.4, 1.0  # log-normal prior; the median times the root of D
VARIANCE_MEDIAN, VARIANCE_SPREAD = 1.0, 1.0
NOISE_MEDIAN, NOISE_SPREAD = 1e-4, 2.5
SCALES, VARIANCES, NOISES = (1e-2, 1e3), (1e-2, 1e2), (1e-6, 1.0)  # what is admitted
FIRST_NOISE = 1e-2  # every fit begins there and at the other medians


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """What a process is like. scales: (D,), lengths. variance, noise: of targets of spread 1."""

    scales: Array
    variance: float
    noise: float

    @classmethod
    def of(cls, logarithms: Array) -> "Hyperparameters":
        """Return those of (D + 2,) logarithms: scales, variance, noise."""
        values = np.exp(logarithms)
        return cls(values[:-2], float(values[-2]), float(values[-1]))


@dataclass(frozen=True, eq=False)
class Pairs:
    """The squared distances of n points to each other, one row for each pair i > j.

    squares: (n (n - 1) / 2, D), in the order of `np.tril_indices(n, -1)`. places: where each
    pair stands in a matrix (n, n) that is stored column by column.
    """

    squares: Array
    places: NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, points: Array, labels: Flags) -> "Pairs":
        """Return the pairs of points (n, D)."""
        rows, columns = np.tril_indices(len(points), -1)
        one, other = points[rows], points[columns]
        squares = np.where(labels, one != other, np.square(one - other))
        return cls(squares, columns * len(points) + rows, len(points))

    def matrix(self, off_diagonal: Array, diagonal: float) -> Array:
        """Return the lower triangle (n, n) with these entries, above it nothing of meaning."""
        column_by_column = np.zeros(self.count * self.count)
        column_by_column[self.places] = off_diagonal
        column_by_column[:: self.count + 1] = diagonal
        return column_by_column.reshape((self.count, self.count), order="F")

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

    def covariance(self, one: Array, other: Array) -> Array:
        """Return the prior covariance of points (m, D) and (k, D), (m, k)."""
        scaled = 1.0 / np.square(self.hyperparameters.scales)
        numbers = ~self.labels
        roots = np.sqrt(scaled[numbers])
        a, b = one[:, numbers] * roots, other[:, numbers] * roots
        squares = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2.0 * a @ b.T
        for column in np.flatnonzero(self.labels):
            squares += scaled[column] * (one[:, None, column] != other[:, column])
        distances = np.sqrt(np.maximum(5.0 * squares, 0.0))
        return self.hyperparameters.variance * _matern(distances)

    def mean(self, points: Array) -> Array:
        """Return the expected targets at points (m, D), (m,)."""
        return self.covariance(points, self.points) @ self.weights

    def whitened(self, points: Array) -> Array:
        """Return the factor's inverse times the covariance with points (m, D), (n, m)."""
        covariance = self.covariance(self.points, points)
        return np.asarray(solve_triangular(self.factor, covariance, lower=True))


def fit(points: Array, labels: Flags, targets: Array) -> Surrogate:
    """Return the process of the most probable hyperparameters.

    points: (n, D) in the unit cube. targets: (n,), standardised. L-BFGS from a fixed start, so
    that the result is a function of the arguments alone.
    """
    dimension = points.shape[1]
    pairs = Pairs.of(points, labels)
    start = np.log([*[_scale_median(dimension)] * dimension, VARIANCE_MEDIAN, FIRST_NOISE])
    bounds = np.log([*[SCALES] * dimension, VARIANCES, NOISES])
    found = minimize(
        lambda at: tuple(-part for part in log_posterior(at, pairs, targets)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": ITERATIONS},
    )
    return given(points, labels, targets, Hyperparameters.of(found.x))


def given(
    points: Array, labels: Flags, targets: Array, hyperparameters: Hyperparameters
) -> Surrogate:
    """Return the process of these hyperparameters, conditioned on the targets (n,)."""
    pairs = Pairs.of(points, labels)
    distances = np.sqrt(5.0 * (pairs.squares @ hyperparameters.scales**-2.0))
    variance = hyperparameters.variance
    matrix = pairs.matrix(variance * _matern(distances), variance + hyperparameters.noise)
    factor = _factor(matrix)
    weights, _ = lapack.dpotrs(factor, targets, lower=1)
    return Surrogate(points, labels, hyperparameters, factor, weights)


def log_posterior(logarithms: Array, pairs: Pairs, targets: Array) -> tuple[float, Array]:
    """Return the log marginal likelihood plus the log prior, and its gradient (D + 2,).

    logarithms: (D + 2,) of the scales, the variance and the noise. The prior is without the
    constants.
    """
    likelihood, slope = log_marginal_likelihood(logarithms, pairs, targets)
    dimension = len(logarithms) - 2
    medians = np.log([*[_scale_median(dimension)] * dimension, VARIANCE_MEDIAN, NOISE_MEDIAN])
    spreads = np.array([*[SCALE_SPREAD] * dimension, VARIANCE_SPREAD, NOISE_SPREAD])
    off = (logarithms - medians) / spreads
    return likelihood - 0.5 * float(off @ off), slope - off / spreads


def log_marginal_likelihood(
    logarithms: Array, pairs: Pairs, targets: Array
) -> tuple[float, Array]:
    """Return the log density of the targets (n,) and its gradient (D + 2,): eqs. 5.8 and 5.9."""
    shape = Hyperparameters.of(logarithms)
    inverse_squares = shape.scales**-2.0
    distances = np.sqrt(5.0 * (pairs.squares @ inverse_squares))
    decay = shape.variance * np.exp(-distances)
    correlated = decay * (1.0 + distances + distances * distances / 3.0)
    factor = _factor(pairs.matrix(correlated, shape.variance + shape.noise))
    weights, _ = lapack.dpotrs(factor, targets, lower=1)
    likelihood = (
        -0.5 * float(targets @ weights)
        - float(np.sum(np.log(np.diag(factor))))
        - 0.5 * len(targets) * math.log(2.0 * math.pi)
    )
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    trace = float(weights @ weights) - float(np.trace(inverse))
    pulls = pairs.entries(np.outer(weights, weights).T - inverse)
    by_scale = (pulls * decay * (1.0 + distances) * (5.0 / 3.0)) @ pairs.squares * inverse_squares
    by_variance = float(pulls @ correlated) + 0.5 * shape.variance * trace
    return likelihood, np.array([*by_scale, by_variance, 0.5 * shape.noise * trace])


def _matern(distances: Array) -> Array:
    """Return the correlation at distances that the root of 5 was multiplied to: eq. 4.17."""
    correlation: Array = np.exp(-distances) * (1.0 + distances + distances * distances / 3.0)
    return correlation


def _factor(matrix: Array) -> Array:
    """Return the Cholesky factor of a lower triangle, which is overwritten."""
    factor, failed = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    assert failed == 0, "the least noise admitted keeps the matrix positive definite"
    return np.asarray(factor)


def _scale_median(dimension: int) -> float:
    return SCALE_MEDIAN * math.sqrt(dimension)
