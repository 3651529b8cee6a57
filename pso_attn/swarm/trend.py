"""A quadratic trend: what near and far points of a bowl, a slope or a ridge have in common.

The inhomogeneous polynomial kernel of degree 2, Rasmussen & Williams (2006), Gaussian Processes
for Machine Learning, section 4.2.2, on coordinates around the middle of the unit cube. Labels
count as one-hot vectors: a linear share for each.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pso_attn.types import Array

Flags = NDArray[np.bool_]

BLOCK = 1 << 15  # entries


def row_blocks(matrix: Array) -> Iterator[slice]:
    """Yield slices of a matrix's rows, few enough that a step over them stays in the cache."""
    rows = max(1, BLOCK // max(1, matrix.shape[1]))
    for first in range(0, len(matrix), rows):
        yield slice(first, first + rows)


def equal_labels(
    one: Array, other: Array, labels: Flags
) -> Iterator[tuple[Flags, NDArray[np.intp]]]:
    """Yield for each label where points (m, D) and (k, D) have the same one.

    A table (L, k) of the L labels that the former have, and the place of each in it, (m,): a row
    is looked up sooner than it is compared.
    """
    for column in np.flatnonzero(labels):
        found, places = np.unique(one[:, column], return_inverse=True)
        yield found[:, None] == other[:, column], places


def trend(one: Array, other: Array, labels: Flags) -> Array:
    """Return the covariance of a trend of size 1 at points (m, D) and (k, D), (m, k).

    Its variance is 1 where a point is as far from the middle as points of the cube are on average.
    """
    products: Array = _centred(one, labels) @ _centred(other, labels).T
    tables = [(equal / one.shape[1], places) for equal, places in equal_labels(one, other, labels)]
    for rows in row_blocks(products):
        for shares, places in tables:
            products[rows] += shares[places[rows]]
        products[rows] = _quadratic(products[rows])
    return products


def trend_variance(points: Array, labels: Flags) -> Array:
    """Return the diagonal of `trend` of points (m, D) with themselves, (m,)."""
    squares = np.sum(np.square(_centred(points, labels)), axis=1)
    return _quadratic(squares + np.count_nonzero(labels) / points.shape[1])


def _centred(points: Array, labels: Flags) -> Array:
    """Return the numbers (m, D'), scaled so that a mean square sum over the cube is D' / D."""
    centred: Array = (points[:, ~labels] - 0.5) * np.sqrt(12.0 / points.shape[1])
    return centred


def _quadratic(products: Array) -> Array:
    quadratic: Array = np.square(0.5 * (1.0 + products))
    return quadratic
