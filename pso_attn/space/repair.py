"""Constraint repair: what is not feasible is moved towards what is, as little as will do."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pso_attn import seeding
from pso_attn.errors import ConstraintError
from pso_attn.types import Array, Params

if TYPE_CHECKING:  # Space is made of what stands here
    from pso_attn.space.space import Space

ANCHORS = 16  # feasible points that are kept
NEAREST, STRIDES = 4, 8  # 32 tries: this many anchors, and steps towards each
REACH = 0.9  # of the way to an anchor on a continuous coordinate: repaired ones stay apart
SAMPLED, ENUMERATED = 4_096, 20_000  # points in which the first feasible ones are sought


@dataclass(frozen=True, eq=False)
class Repaired:
    """A position (D,) and what it decodes to; violations is not empty where it is infeasible."""

    position: Array
    params: Params
    violations: Mapping[str, float] = field(default_factory=dict)


def repaired(
    space: "Space", position: Array, draws: Callable[[], np.random.Generator]
) -> Repaired:
    """Return a feasible point near `position` (D,), or `position` itself with its violations.

    Divisors are lowered first. Then come 32 tries towards the nearest anchors, the shortest
    change first; of what the first feasible one changed, all that may go back goes back.
    draws: makes the generator, which takes longer than finding that nothing is violated.
    """
    found = _feasible(space, position)
    if found is None:
        rng = draws()
        for moved in _towards_anchors(space, position, rng):
            found = _feasible(space, moved)
            if found is not None:
                found = _put_back(space, position, found, rng)
                break
    if found is None:
        params = space.decode(position)
        return Repaired(position, params, space.violations(params))
    return found


def find_anchors(space: "Space", known: Array, where: str) -> Array:
    """Return up to 16 feasible points, (A, D), those among `known` (K, D) first.

    A discrete space of at most 20,000 points is searched through, any other by 4,096 random
    points under a fixed key. Raises ConstraintError where none is feasible.
    """
    if not space.constraints and not space.divisors:
        return np.empty((0, space.dimension))
    points, are_all = _points(space, known)
    texts = {constraint.text for constraint in space.constraints}
    texts |= {divisor.text for divisor in space.divisors}
    never_met, anchors = set(texts), []
    for point in (*known, *points):
        settled = space.settled(point)
        broken = space.violations(space.decode(settled))
        never_met &= broken.keys()
        if not broken:
            anchors.append(settled)
        if len(anchors) == ANCHORS:
            break
    if not anchors:
        space.derived(space.settings(space.decode(known[0])))  # may raise the real reason
        listed = " and ".join(f'"{text}"' for text in sorted(never_met or texts))
        which = "no point of the space" if are_all else f"none of {SAMPLED:,} sampled points"
        raise ConstraintError(
            f"{where}: {which} satisfies {listed}; relax it or widen the ranges in [search]"
        )
    return np.stack(anchors)


def _points(space: "Space", known: Array) -> tuple[Array, bool]:
    """Return points (N, D) to look at, and whether they are all that there are.

    Where they are not, half of them take some of their coordinates from `known` (K, D): settings
    that are rare to hit may stand there.
    """
    if space.dimension == 0:  # weights alone vary
        return np.empty((1, 0)), True
    rng = seeding.generator(0, "anchors")
    sizes = [int(levels) for levels in space.levels]
    total = math.prod(sizes)
    if 0 < total <= ENUMERATED:
        bins = np.unravel_index(rng.permutation(total), sizes)  # D arrays (N,)
        scales = [coordinate.scale for coordinate in space.coordinates]
        centres = [np.array([s.point(v) for v in s.values]) for s in scales]  # type: ignore[arg-type]  # its own values
        return np.stack([c[b] for c, b in zip(centres, bins, strict=True)], axis=-1), True
    points = rng.random((SAMPLED, space.dimension))
    share = np.where(np.arange(SAMPLED) % 2, rng.random(SAMPLED), 0.0)  # of what every other keeps
    kept = rng.random(points.shape) < share[:, None]
    return np.where(kept, known[np.arange(SAMPLED) % len(known)], points), False


def _feasible(space: "Space", position: Array) -> Repaired | None:
    settled = space.settled(position)
    params = space.decode(settled)
    return None if space.violations(params) else Repaired(settled, params)


def _towards_anchors(space: "Space", position: Array, rng: np.random.Generator) -> Array:
    """Return the tries, (at most 32, D), the shortest change first.

    Numbers go part of the way, labels are the anchor's with that probability; on the last
    stride everything discrete is the anchor's.
    """
    discrete = space.levels > 0
    near = np.argsort(_distances(space, position, space.anchors), kind="stable")[:NEAREST]
    tries = []
    for anchor in space.anchors[near]:
        for stride in range(1, STRIDES + 1):
            share = stride / STRIDES
            moved = position + np.where(discrete, share, REACH * share) * (anchor - position)
            copied = space.categorical & (rng.random(space.dimension) < share)
            moved = np.where(space.categorical, position, moved)
            whole = copied | (discrete & (stride == STRIDES))
            tries.append(np.where(whole, anchor, moved))
    found = np.clip(np.array(tries).reshape(-1, space.dimension), 0.0, 1.0)
    shortest_first = np.argsort(_distances(space, position, found), kind="stable")
    return np.asarray(found[shortest_first])


def _distances(space: "Space", position: Array, others: Array) -> Array:
    """Return how far others (N, D) are: steps added up, each different label counting as 1."""
    steps = np.abs(space.snap(others) - space.snap(position))
    return np.asarray(np.where(space.categorical, steps > 0, steps).sum(axis=-1), np.float64)


def _put_back(
    space: "Space", position: Array, found: Repaired, rng: np.random.Generator
) -> Repaired:
    """Return the feasible point with every change undone that it can do without."""
    for column in rng.permutation(np.flatnonzero(found.position != position)):
        undone = found.position.copy()
        undone[column] = position[column]
        feasible = _feasible(space, undone)
        if feasible is not None:
            found = feasible
    return found
