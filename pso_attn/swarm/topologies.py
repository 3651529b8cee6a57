"""Who sees whom: each topology as an array of indices, whatever the number of particles.

(P, K), a row for each particle: first itself, then whom it sees, and where it sees fewer than
others, itself again. So the array is rectangular where neighbourhoods are not, and the first
smallest cost of a row is the particle's own among equals.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Links = NDArray[np.intp]

_EDGES = (  # of tetrahedra stacked on each other, half of the twelve: the others go back
    *((0, 0, 1), (0, 1, 0), (0, 1, 1)),  # inside a layer
    *((1, 0, 0), (1, 1, 0), (1, 1, 1)),  # to the layer below
)


def ring(particles: int, neighbours: int) -> Links:
    """Return a ring on which each sees `neighbours` on each side (lbest, Kennedy 1999).

    One that reaches around the whole swarm is a star.
    """
    reach = min(neighbours, particles // 2)
    steps = sorted(range(-reach, reach + 1), key=abs)  # 0, -1, 1, ...
    return (np.arange(particles)[:, None] + steps) % particles


def star(particles: int) -> Links:
    """Return a swarm in which everybody sees everybody (gbest, Kennedy & Eberhart 1995)."""
    return (np.arange(particles)[:, None] + np.arange(particles)) % particles


def von_neumann(particles: int) -> Links:
    """Return a grid whose edges meet: each sees the one above, below, left and right.

    The "square" of Kennedy & Mendes (2002), 4 × 5 for their 20 particles. It has floor(sqrt(P))
    rows at most, and where the last one is not full, its row and its columns are shorter.
    """
    columns = math.ceil(particles / math.isqrt(particles))
    sees = np.eye(particles, dtype=bool)
    for i in range(particles):
        row, column = divmod(i, columns)
        along = np.arange(row * columns, min((row + 1) * columns, particles))
        across = np.arange(column, particles, columns)
        sees[i, along[[(column + 1) % len(along), column - 1]]] = True
        sees[i, across[[(row + 1) % len(across), row - 1]]] = True
    return listed(sees)


def pyramid(particles: int) -> Links:
    """Return a tetrahedron of tetrahedra, filled from its top: each sees those one edge away.

    The "three-dimensional wire-frame triangle" of Kennedy & Mendes (2002), of 1 + 3 + 6 + 10
    places for their 20 particles; any other number leaves the lowest layer unfinished. pyswarms'
    pyramid triangulates positions instead, which beyond a few dimensions cannot be computed.
    """
    places = dict(zip(_tetrahedron(), range(particles), strict=False))
    sees = np.eye(particles, dtype=bool)
    for (layer, row, column), i in places.items():
        for down, along, across in _EDGES:
            j = places.get((layer + down, row + along, column + across))
            if j is not None:
                sees[i, j] = sees[j, i] = True
    return listed(sees)


def informants(particles: int, informed: int, rng: np.random.Generator) -> Links:
    """Return random links: each particle informs about `informed` others, drawn afresh.

    It is seen by another with chance 1 - (1 - 1/P)^K, that of being met when one draws K times
    with replacement: the "adaptive random topology" of Clerc (2012), as his program draws it.
    """
    chance = 1.0 - (1.0 - 1.0 / particles) ** informed
    return listed(rng.random((particles, particles)) < chance)


def listed(sees: NDArray[np.bool_]) -> Links:
    """Return who sees whom, (P, P), as indices; everybody sees itself, said or not."""
    own = np.arange(len(sees))
    order = np.where(sees, 1, 2)
    order[own, own] = 0
    widest = int((order < 2).sum(axis=1).max())
    found = np.argsort(order, axis=1, kind="stable")[:, :widest]
    return np.where(np.take_along_axis(order, found, axis=1) < 2, found, own[:, None])


def _tetrahedron() -> Iterator[tuple[int, int, int]]:
    """Yield places (layer, row, column) from the top down, without end."""
    layer = 0
    while True:
        yield from ((layer, row, column) for row in range(layer + 1) for column in range(row + 1))
        layer += 1
