"""How a position is kept inside the unit cube, and a velocity inside its limit."""

import numpy as np

from pso_attn.types import Array


def reflect(position: Array) -> Array:
    """Return the position mirrored at the faces of the unit cube until it lies inside.

    Any shape, any finite values. This is Helwig (2010), PhD thesis, Erlangen, "reflection", in
    closed form: the triangle wave of period 2. pyswarms' `reflective` handler agrees, but it
    overwrites its argument and loops once for each crossing of the cube.
    """
    folded = np.mod(position, 2.0)  # [0, 2]
    return np.where(folded > 1.0, 2.0 - folded, folded)


def limit(velocity: Array, largest: float) -> Array:
    """Return the velocity with each coordinate clipped to [-largest, largest].

    `largest` is a fraction of the range, which is 1 in the unit cube. Eberhart & Shi (2000),
    "Comparing inertia weights and constriction factors", found that constriction needs it too.
    """
    return np.clip(velocity, -largest, largest)
