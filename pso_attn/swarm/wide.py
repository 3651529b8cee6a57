"""What holds in spaces as wide as weight matrices: where a swarm begins, and single precision."""

import numpy as np
from scipy.special import ndtri

from pso_attn.space import LARGEST_DOUBLE, Space
from pso_attn.swarm.bounds import reflect
from pso_attn.types import Array

SPREAD = 1.0 / 6.0  # standard deviation of a wide start: the faces of the cube at three of them


def is_wide(space: Space) -> bool:
    """Tell whether the space is too wide for what fills a cube evenly."""
    return space.dimension > LARGEST_DOUBLE


def origin(space: Space) -> Array:
    """Return where the space's first start lies, (D,): the defaults, or the base weights."""
    return np.array(space.starts[0]) if len(space.starts) else np.full(space.dimension, 0.5)


def scattered(space: Space, uniform: Array, spread: float) -> Array:
    """Return where particles begin, (…, D), from uniform deviates (…, D).

    In ordinary spaces these themselves. In wide ones numbers are N(origin, spread), mirrored at
    the faces: evenly drawn points all lie some .29 off the middle in each of so many coordinates,
    which is further than weights can stray together. Labels: always evenly distributed.
    """
    if not is_wide(space):
        return uniform
    deviates = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    numbers = reflect(origin(space) + spread * deviates)
    return np.where(space.categorical, space.snap(uniform), numbers)


def storable(space: Space, positions: Array) -> Array:
    """Return positions (…, D) inside the cube, labels snapped, as they can be stored.

    In wide spaces these are float32 numbers in float64 arrays: what is stored is then what was
    proposed, and velocities and steps come out of it exactly.
    """
    inside = np.clip(positions, 0.0, 1.0)
    if space.categorical.any():
        inside = np.where(space.categorical, space.snap(inside), inside)
    return space.rounded(inside)
