"""Which of many moves promises most: expected improvement, with those already chosen in mind."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import erfcx, ndtr

from pso_attn.space import Space
from pso_attn.space.repair import Repaired
from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.ledger import keys, modelled
from pso_attn.swarm.standing import Standing
from pso_attn.swarm.surrogate import Surrogate
from pso_attn.types import Array

ROUNDS, STEPS = 4, 25  # in which a chosen move is improved, and tries in each
DECADES = 2.5  # that its steps are shorter at most than its draws are apart
SAME = 1e-6  # logarithms of what promises alike: rounding decides nothing
FEW = 0.3  # of the numbers are changed by half of the steps
FINALISTS = 5  # of a slot's draws are repaired where there are constraints, or more if none is new

Trained = Callable[[int, Array], Repaired]

_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a surrogate expects at m points, (m,) each; whitened: (n, m), see `Surrogate`."""

    mean: Array
    variance: Array
    whitened: Array

    @classmethod
    def of(cls, surrogate: Surrogate, points: Array) -> "Forecast":
        """Return the forecast at points (m, D)."""
        whitened = surrogate.whitened(points)
        variance = surrogate.variance(points) - np.einsum("nm,nm->m", whitened, whitened)
        mean = surrogate.whitened_targets @ whitened
        return cls(mean, _positive(variance), whitened)

    def promise(self, best: float) -> Array:
        """Return the logarithm of the expected improvement on `best` at each point, (m,)."""
        deviation = np.sqrt(self.variance)
        return log_improvement((best - self.mean) / deviation) + np.log(deviation)


@dataclass(frozen=True, eq=False)
class Fantasies:
    """A surrogate, as if k points had been evaluated and had met its mean.

    No mean changes, so only variances are updated: the "kriging believer" of Ginsbourger, Le Riche
    & Carraro (2010), eq. 20. points: (k, D). whitened: (n, k), of these points. factor: (k, k),
    the last rows of the Cholesky factor of all n + k points, less the first n columns.
    """

    surrogate: Surrogate
    points: Array
    whitened: Array
    factor: Array

    @classmethod
    def none(cls, surrogate: Surrogate) -> "Fantasies":
        """Return the surrogate as it is."""
        count, dimension = surrogate.points.shape
        return cls(surrogate, np.empty((0, dimension)), np.empty((count, 0)), np.empty((0, 0)))

    def forecast(self, points: Array) -> Forecast:
        """Return the forecast at points (m, D)."""
        plain = Forecast.of(self.surrogate, points)
        if not len(self.points):
            return plain
        rows = self._rows(points, plain)
        return replace(plain, variance=_positive(plain.variance - np.sum(rows * rows, axis=0)))

    def believing(self, point: Array, plain: Forecast) -> "Fantasies":
        """Return the same with one more point (1, D); plain: what the surrogate expects there."""
        row = self._rows(point, plain)[:, 0]
        left = float(plain.variance[0] - row @ row)
        count = len(row)
        factor = np.zeros((count + 1, count + 1))
        factor[:count, :count], factor[count, :count] = self.factor, row
        factor[count, count] = math.sqrt(max(left, 0.0) + self.surrogate.hyperparameters.noise)
        return Fantasies(
            self.surrogate,
            np.vstack((self.points, point)),
            np.column_stack((self.whitened, plain.whitened)),
            factor,
        )

    def _rows(self, points: Array, plain: Forecast) -> Array:
        """Return what the fantasies add to the whitened covariance with points, (k, m)."""
        prior = self.surrogate.covariance(self.points, points)
        left = prior - self.whitened.T @ plain.whitened
        return np.asarray(solve_triangular(self.factor, left, lower=True, check_finite=False))


def chosen_moves(
    space: Space,
    standing: Standing,
    drawn: Array,
    known: set[bytes],
    again: set[bytes],
    order: NDArray[np.intp],
    rngs: Sequence[np.random.Generator],
    trained: Trained | None = None,
) -> Array:
    """Return the move of each of B slots, (B, D), choosing in the order given.

    drawn: (B, m, D), what each slot has to choose from. What is known or taken is only repeated if
    nothing else is left, unless it is in `again`. The draw of the largest expected improvement is
    taken and then improved in small steps, as large at most as its slot's draws are apart: see
    `_climbed`. What is looked at again stays as it is. rngs: one for each slot. trained: where
    there are constraints, what a slot's place is repaired to; the most promising draws come first
    then.
    """
    fantasies, best = Fantasies.none(standing.surrogate), standing.best
    moves, taken = np.empty((len(drawn), space.dimension)), known - again
    for slot in order:
        own, feasible = drawn[slot], np.ones(drawn.shape[1], dtype=bool)
        repair = trained and partial(trained, slot)
        if repair is not None:
            own, feasible = _finalists(space, own, taken, repair)
        points = modelled(space, own)
        promise = fantasies.forecast(points).promise(best)
        fresh = _fresh(points, taken)
        pick = int(np.lexsort((-promise, ~fresh, ~feasible))[0])
        move = own[pick]
        looks_again = keys(points[[pick]])[0] in again
        if feasible[pick] and not looks_again:
            so_far = float(promise[pick]) if fresh[pick] else -math.inf
            promises = partial(_promises, space, fantasies, best, taken)
            spread = np.std(drawn[slot], axis=0)
            move = _climbed(space, move, so_far, spread, promises, rngs[slot], repair)
        moves[slot] = move
        point = modelled(space, move[None])
        taken.update(keys(point))
        expected = Forecast.of(standing.surrogate, point)
        best = min(best, float(expected.mean[0]))
        fantasies = fantasies.believing(point, expected)
    return moves


def _finalists(
    space: Space, drawn: Array, taken: set[bytes], trained: Callable[[Array], Repaired]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return some of the draws (m, D) as they would be trained, and which could be.

    They are the first few, and more until one is feasible and new: what is taken comes last.
    """
    places, feasible = [], []
    is_any_new = False
    for row in np.argsort(~_fresh(modelled(space, drawn), taken), kind="stable"):
        repaired = trained(drawn[row])
        places.append(repaired.position)
        feasible.append(not repaired.violations)
        is_any_new |= feasible[-1] and _fresh(modelled(space, repaired.position[None]), taken)[0]
        if is_any_new and len(places) >= FINALISTS:
            break
    return np.array(places), np.array(feasible)


def _climbed(
    space: Space,
    move: Array,
    promise: float,
    spread: Array,
    promises: Callable[[Array], Array],
    rng: np.random.Generator,
    trained: Callable[[Array], Repaired] | None = None,
) -> Array:
    """Return a move (D,) improved in numbers, its labels kept.

    In each of some rounds, steps are drawn from the best place so far, normally distributed with
    a deviation of `spread` (D,), made shorter by a factor that is drawn for each; half of them
    change a part of the numbers only. Every other round stops at the faces, others are mirrored.
    """
    for turn in range(ROUNDS):
        shape = (STEPS, space.dimension)
        steps = 10.0 ** rng.uniform(-DECADES, 0.0, (STEPS, 1)) * spread * rng.normal(size=shape)
        partly = rng.random((STEPS, 1)) < 0.5
        moved = move + np.where(partly & (rng.random(shape) >= FEW), 0.0, steps)
        inside = reflect(moved) if turn % 2 else np.clip(moved, 0.0, 1.0)
        places = space.snap(np.where(space.categorical, move, inside))
        found = promises(places)
        highest = int(np.argmax(found >= found.max() - SAME))
        place, reached = places[highest], float(found[highest])
        if reached > promise + SAME and trained is not None:
            repaired = trained(place)
            place = repaired.position
            reached = float(promises(place[None])[0]) if not repaired.violations else -math.inf
        if reached > promise + SAME:
            move, promise = place, reached
    return move


def _promises(
    space: Space, fantasies: Fantasies, best: float, taken: set[bytes], places: Array
) -> Array:
    """Return the log expected improvement of places (m, D), -infinity for what is taken, (m,)."""
    points = modelled(space, places)
    promise = fantasies.forecast(points).promise(best)
    return np.where(_fresh(points, taken), promise, -np.inf)


def _fresh(points: Array, taken: set[bytes]) -> NDArray[np.bool_]:
    return np.array([key not in taken for key in keys(points)])


def log_improvement(z: Array) -> Array:
    """Return log(phi(z) + z Phi(z)), exact far below 0: Ament et al. (2023), eq. 9 and 14.

    z: how many deviations the mean is better than the best.
    """
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near - _LOG_ROOT_TAU)
    far = np.minimum(z, -1.0)
    ratio = math.sqrt(0.5 * math.pi) * -far * erfcx(-far / math.sqrt(2.0))  # -> 1 - 1 / z^2
    shortfall = np.where(far < -1e5, 1.0 / (far * far), np.maximum(1.0 - ratio, 1e-300))
    tail = -0.5 * far * far - _LOG_ROOT_TAU + np.log(shortfall)
    return np.where(z > -1.0, np.log(density + near * ndtr(near)), tail)


def _positive(variance: Array) -> Array:
    return np.maximum(variance, 1e-12)
