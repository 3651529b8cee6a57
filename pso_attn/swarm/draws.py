"""Moves for a surrogate to choose from: many draws of the swarm's velocity rule, and the start."""

import numpy as np
from scipy.special import ndtri

from pso_attn.seeding import sobol
from pso_attn.space import Space
from pso_attn.swarm.bounds import reflect
from pso_attn.types import Array

INERTIA = (0.2, 0.9)  # drawn anew for each move
PULLS = (0.5, 2.2)
WOBBLE = 0.35  # of a bin: discrete numbers could not leave theirs once a swarm is slow
START_SPREAD = 0.2  # standard deviation of the start around its centre
SHORT, DECADES = 0.25, 2.0  # share of the moves that end near l, by up to so many orders
STOPPING = 0.5  # share of the moves that end at a face where others are mirrored by it
EDGE = 0.25  # the centre keeps this distance from the ends, so that both are seen


def moves(
    space: Space,
    x: Array,
    v: Array,
    personal: Array,
    social: Array,
    jump_rate: float,
    rng: np.random.Generator,
) -> Array:
    """Return places where a particle may go, one for each row of v, (m, D).

    Numbers: x + w v + c1 r1 (p - x) + c2 r2 (l - x), with w, c1 and c2 drawn for each move and
    r1, r2 ~ U(0, 1) for each coordinate. A quarter of the moves end nearer to l than that, by a
    factor of 1 to 100, of each order of magnitude alike: a swarm of few moves would not contract
    to where a smooth loss still falls. Half of the moves are mirrored at the ends of the range,
    half stop there, since the best of a knob is often its end. Discrete ones also get a normal
    deviate of a third of a bin. Labels: a copy of x's, p's or, twice as likely, l's; at
    `jump_rate` a uniform one.
    x, personal: (D,) or (m, D). v, social: (m, D).
    """
    count = len(v)
    inertia = rng.uniform(*INERTIA, (count, 1))
    cognitive, social_pull = rng.uniform(*PULLS, (2, count, 1))
    r1, r2, source, jump, bins = rng.random((5, *v.shape))
    pulled = x + inertia * v + cognitive * r1 * (personal - x) + social_pull * r2 * (social - x)
    short = rng.random((count, 1)) < SHORT
    pulled = np.where(
        short, social + 10.0 ** rng.uniform(-DECADES, 0.0, (count, 1)) * (pulled - social), pulled
    )
    bin_width = np.where(space.levels > 0, 1.0 / np.maximum(space.levels, 1), 0.0)
    pulled += WOBBLE * bin_width * rng.normal(size=pulled.shape)
    copied = np.where(source < 0.25, x, np.where(source < 0.5, personal, social))
    labels = np.where(jump < jump_rate, bins, copied)
    numbers = kept_inside(pulled, rng)
    return space.snap(np.where(space.categorical, labels, numbers))


def kept_inside(moves: Array, rng: np.random.Generator) -> Array:
    """Return moves (m, D) inside the cube: half of them stop at its faces, half are mirrored."""
    stopping = rng.random((len(moves), 1)) < STOPPING
    return np.where(stopping, np.clip(moves, 0.0, 1.0), reflect(moves))


def varied(space: Space, positions: Array, rng: np.random.Generator) -> Array:
    """Return positions (m, D) with one coordinate of each drawn anew."""
    column = rng.integers(space.dimension, size=len(positions))
    changed = np.arange(space.dimension) == column[:, None]
    return space.snap(np.where(changed, rng.random(positions.shape), positions))


def start(space: Space, seed: int, first: int, count: int) -> Array:
    """Return points first .. first + count - 1 of the start, (count, D).

    Numbers: normally distributed around the knobs' defaults, from a scrambled Sobol sequence;
    mirrored at the ends of the range. Labels: evenly distributed.
    """
    even = sobol(seed, space.dimension, first, count)
    deviates = ndtri(np.clip(even, 1e-9, 1.0 - 1e-9))
    numbers = reflect(centre(space) + START_SPREAD * deviates)
    return space.snap(np.where(space.categorical, even, numbers))


def centre(space: Space) -> Array:
    """Return where the start lies, (D,): the defaults, held a quarter away from the ends."""
    middle: Array = np.clip(space.encode({}), EDGE, 1.0 - EDGE)
    return middle
