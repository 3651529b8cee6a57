"""A swarm's positions in the two directions in which they differ most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pso_attn.types import History, Trial

MOST = 2000  # positions that components are taken from; more take long and hide each other
MOST_FLOATS = 2**26  # that these hold together


@dataclass(frozen=True, eq=False)
class Components:
    """Where positions stand along their first two principal components.

    points: (n, 2). generations: (n,). shares: of the variance, along each. best, start: rows of
    the points, None where there is none. whole: of how many positions these n are.
    """

    points: NDArray[np.float64]
    generations: NDArray[np.int64]
    shares: tuple[float, float]
    best: int | None
    start: int | None
    whole: int


def components(
    history: History, knobs: int, best: Trial | None, start: Trial | None
) -> Components | None:
    """Return a history's positions without their first `knobs` coordinates; None where all agree.

    Of more than 2,000, or fewer where they are long, a part is taken, evenly, and best and start
    with it. Principal components are those of the centred positions' singular value decomposition
    (Jolliffe 2002, section 3.5), read off the smaller of its two Gram matrices.
    """
    trials = history.trials
    if not trials:
        return None
    width = len(trials[0].position) - knobs
    count = min(MOST, max(2, MOST_FLOATS // width), len(trials))
    even = np.linspace(0, len(trials) - 1, count).astype(int)
    marked = {number for number, trial in enumerate(trials) if trial is best or trial is start}
    rows = sorted({*even.tolist(), *marked})
    if len(rows) < 3:
        return None
    points = np.stack([trials[row].position[knobs:].astype(np.float32) for row in rows])
    points -= points.mean(axis=0)
    projected, variances = _leading(points)
    total = float(np.einsum("ij,ij->", points, points, dtype=np.float64))
    if total <= 0:
        return None
    places = {id(trials[row]): place for place, row in enumerate(rows)}
    return Components(
        points=projected,
        generations=np.array([trials[row].generation for row in rows]),
        shares=(float(variances[0]) / total, float(variances[1]) / total),
        best=places.get(id(best)),
        start=places.get(id(start)),
        whole=len(trials),
    )


def _leading(points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centred points (n, D) along two components, (n, 2), and their squared lengths."""
    from scipy.linalg import eigh

    is_wide = points.shape[1] > len(points)
    gram = (points @ points.T if is_wide else points.T @ points).astype(np.float64)
    last = len(gram) - 1
    values, vectors = eigh(gram, subset_by_index=(max(0, last - 1), last))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if len(values) < 2:  # one coordinate
        values, vectors = np.append(values, 0.0), np.pad(vectors, ((0, 0), (0, 1)))
    along = vectors * np.sqrt(values) if is_wide else points.astype(np.float64) @ vectors
    signs = np.sign(along[np.abs(along).argmax(axis=0), range(2)])  # as eigenvectors have none
    return along * np.where(signs == 0, 1.0, signs), values
