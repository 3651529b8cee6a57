"""How one particle moves: the velocity rules of the textbook, and what stands for them on labels.

Pure functions of arrays. x is the position, v the velocity, p (`personal`) the personal best, l
(`social`) the neighbourhood best; where a best is missing, x stands for it and nothing pulls.
"""

from dataclasses import dataclass

import numpy as np

from pso_attn.types import Array

FIRST_INERTIA, LAST_INERTIA = 0.9, 0.4


@dataclass(frozen=True)
class Weights:
    """What multiplies the old velocity and the two pulls."""

    inertia: float
    cognitive: float
    social: float


def constricted(cognitive: float, social: float) -> Weights:
    """Return the weights under constriction; cognitive + social must exceed 4.

    v' = chi (v + c1 r1 (p - x) + c2 r2 (l - x)), chi = 2 / |2 - phi - sqrt(phi^2 - 4 phi)| with
    phi = c1 + c2: Clerc & Kennedy (2002), type 1'' with kappa = 1; Eberhart & Shi (2000), eqs. 3
    and 4. 2.05 + 2.05 gives .7298.
    """
    phi = cognitive + social
    assert phi > 4, "the options reader refuses this"
    chi = 2.0 / abs(2.0 - phi - np.sqrt(phi * phi - 4.0 * phi))
    return Weights(chi, chi * cognitive, chi * social)


def inertial(cognitive: float, social: float, generation: int, generations: int) -> Weights:
    """Return the weights of generation `generation` (from 0) under a falling inertia weight.

    v' = w v + c1 r1 (p - x) + c2 r2 (l - x): Shi & Eberhart (1998), eq. 2. w falls linearly from
    .9 to .4 over the budget the search began with, and stays there when it is resumed for longer.
    """
    progress = min(1.0, generation / max(1, generations - 1))
    inertia = FIRST_INERTIA + (LAST_INERTIA - FIRST_INERTIA) * progress
    return Weights(inertia, cognitive, social)


def velocity(
    x: Array,
    v: Array,
    personal: Array,
    social: Array,
    weights: Weights,
    draws: Array,
) -> Array:
    """Return the next velocity, (…, D) as x is; draws: (2, …, D), r1 and r2 ~ U(0, 1)."""
    r1, r2 = draws
    to_personal: Array = weights.cognitive * r1 * (personal - x)
    to_social: Array = weights.social * r2 * (social - x)
    return weights.inertia * v + to_personal + to_social


def copied_labels(
    x: Array,
    personal: Array,
    social: Array,
    levels: Array,
    weights: Weights,
    jump_rate: float,
    draws: Array,
) -> Array:
    """Return each coordinate copied from x, p or l or, at `jump_rate`, a uniform bin's centre.

    (…, D) each. The chances of x, p and l are as inertia : cognitive : social, the weights with
    which a numeric coordinate is drawn to them. No arithmetic touches a label, so no order among
    labels is invented. levels: bins of each coordinate, at least 1. draws: (3, …, D) ~ U(0, 1).
    """
    source, jump, bins = draws
    shares = np.cumsum([weights.inertia, weights.cognitive, weights.social])
    source = source * shares[-1]
    copied = np.where(source < shares[0], x, np.where(source < shares[1], personal, social))
    return np.where(jump < jump_rate, (np.floor(bins * levels) + 0.5) / levels, copied)
