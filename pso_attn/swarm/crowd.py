"""Moves of very many particles in one sweep: few draws for each, and none waits for another.

Taking each chosen move into account for all others, as `screening` does, takes time with the
square of the batch: minutes for 512 particles. In a crowd the particles' own places keep them
apart, and each takes the draw of the largest expected improvement that nobody took before.
"""

import numpy as np
from numpy.typing import NDArray

from pso_attn.space import Space
from pso_attn.swarm.draws import moves
from pso_attn.swarm.ledger import Ledger
from pso_attn.swarm.standing import POINTS, Standing
from pso_attn.types import Array

Indices = NDArray[np.intp]

CROWD = 64  # slots: beyond them a batch is one
SCREENED = 16_384  # draws of all its particles together
MANY = 2_048  # slots: beyond them devices would wait for the surrogate,
FEWER = 300  # so that it is fitted to at most so many points
LEAST_DRAWS = 4  # of each, where there is a choice at all


def draws_each(draws: int, slots: int) -> int:
    """Return how many draws each of so many slots has, at most `draws`."""
    return min(draws, max(LEAST_DRAWS, SCREENED // slots))


def points_for(slots: int) -> int:
    """Return how many points the surrogate of so many slots is fitted to at most."""
    return FEWER if slots > MANY else POINTS


def crowd_moves(
    space: Space,
    ledger: Ledger,
    standing: Standing,
    links: Indices,
    particles: Indices,
    count: int,
    wandering: float,
    jump_rate: float,
    rng: np.random.Generator,
) -> Array:
    """Return where their velocities may take particles (B,), (B, count, D): see `draws.moves`.

    links: (P, K), whom each particle sees. wandering: share of the draws that follow anybody.
    """
    costs, slots = standing.costs, len(particles)
    leaders = np.take_along_axis(links, np.argmin(costs[links], axis=1)[:, None], axis=1)[:, 0]
    leader = leaders[particles]
    uniform = rng.random((slots, count, space.dimension))
    last, before = _paths(ledger, len(costs))
    latest, earlier = last[particles], before[particles]
    x = ledger.positions[latest]
    v = np.where(
        (earlier >= 0)[:, None, None],
        (x - ledger.positions[earlier])[:, None],
        0.5 * (uniform - x[:, None]),  # from rest, as a single particle
    )
    able = np.flatnonzero(np.isfinite(costs))
    drawn = able if len(able) else np.zeros(1, dtype=np.intp)
    anybody = drawn[rng.integers(len(drawn), size=(slots, count))]
    followed = np.where(rng.random((slots, count)) < wandering, anybody, leader[:, None])
    own = np.where(np.isfinite(costs[particles]), particles, leader)
    found = moves(
        space,
        np.repeat(x, count, axis=0),
        v.reshape(-1, space.dimension),
        np.repeat(ledger.positions[standing.bests[own]], count, axis=0),
        ledger.positions[standing.bests[followed.ravel()]],
        jump_rate,
        rng,
    ).reshape(uniform.shape)
    led = np.isfinite(costs[leader]) & (latest >= 0)  # else there is nothing to draw it anywhere
    return np.where(led[:, None, None], found, space.snap(uniform))


def crowd_choice(promise: Array, names: list[bytes], known: set[bytes], order: Indices) -> Indices:
    """Return which of its draws each slot takes, (B,), choosing in the order given.

    promise: (B, m). names: of the B m draws; what is known or taken is only repeated where
    nothing else is left.
    """
    draws = promise.shape[1]
    ranked = np.argsort(-promise, axis=1, kind="stable")
    chosen, taken = ranked[:, 0].copy(), set(known)
    for slot in order:
        first = slot * draws
        fresh = (pick for pick in ranked[slot] if names[first + pick] not in taken)
        chosen[slot] = next(fresh, ranked[slot, 0])
        taken.add(names[first + chosen[slot]])
    return chosen


def _paths(ledger: Ledger, particles: int) -> tuple[Indices, Indices]:
    """Return each particle's latest move and the one before, (P,) trials each; -1 for none."""
    last = np.full(particles, -1)
    before = last.copy()
    moved = np.flatnonzero(~ledger.again)
    last[ledger.particles[moved]] = moved  # of those of one particle the latest stays
    earlier = moved[moved != last[ledger.particles[moved]]]
    before[ledger.particles[earlier]] = earlier
    return last, before
