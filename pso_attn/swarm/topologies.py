"""Who sees whom: each topology as an array of indices, whatever the number of particles.

(P, K), a row for each particle: first itself, then whom it sees, and where it sees fewer than
others, itself again. So the array is rectangular where neighbourhoods are not, and the first
smallest cost of a row is the particle's own among equals.
"""

import math
from collections.abc import Collection, Iterator, Sequence

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
    sees = []
    for i in range(particles):
        row, column = divmod(i, columns)
        along = range(row * columns, min((row + 1) * columns, particles))
        across = range(column, particles, columns)
        beside = (along[(column + 1) % len(along)], along[column - 1])
        sees.append({*beside, across[(row + 1) % len(across)], across[row - 1]})
    return listed(sees)


def pyramid(particles: int) -> Links:
    """Return a tetrahedron of tetrahedra, filled from its top: each sees those one edge away.

    The "three-dimensional wire-frame triangle" of Kennedy & Mendes (2002), of 1 + 3 + 6 + 10
    places for their 20 particles; any other number leaves the lowest layer unfinished. pyswarms'
    pyramid triangulates positions instead, which beyond a few dimensions cannot be computed.
    """
    places = dict(zip(_tetrahedron(), range(particles), strict=False))
    sees: list[set[int]] = [set() for _ in places]
    for (layer, row, column), i in places.items():
        for down, along, across in _EDGES:
            j = places.get((layer + down, row + along, column + across))
            if j is not None:
                sees[i].add(j)
                sees[j].add(i)
    return listed(sees)


def informants(particles: int, informed: int, rng: np.random.Generator) -> Links:
    """Return random links: each particle informs about `informed` others, drawn afresh.

    It is seen by another with chance 1 - (1 - 1/P)^K, that of being met when one draws K times
    with replacement: the "adaptive random topology" of Clerc (2012), as his program draws it.
    """
    chance = 1.0 - (1.0 - 1.0 / particles) ** informed
    rows = (np.flatnonzero(rng.random(particles) < chance) for _ in range(particles))
    return listed([row.tolist() for row in rows])


def listed(sees: Sequence[Collection[int]]) -> Links:
    """Return as an array whom each particle sees; everybody sees itself, said or not."""
    others = [sorted(j for j in row if j != own) for own, row in enumerate(sees)]
    widest = 1 + max(map(len, others))
    return np.array([(i, *row, *(i,) * (widest - 1 - len(row))) for i, row in enumerate(others)])


def _tetrahedron() -> Iterator[tuple[int, int, int]]:
    """Yield places (layer, row, column) from the top down, without end."""
    layer = 0
    while True:
        yield from ((layer, row, column) for row in range(layer + 1) for column in range(row + 1))
        layer += 1
