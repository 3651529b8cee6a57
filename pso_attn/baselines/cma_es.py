"""CMA-ES with margin for mixed spaces, its distribution replayed from history.

The library `cmaes` holds the distribution; history holds where it was asked to look. A generation
that is folded is asked for again, which gives the same points as when it was proposed: of a
coordinate that was trained where it was asked, the distribution is told the point before it was
rounded and clipped, of any other (a start, a repair) where it was trained.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.baselines.options import FOR_WEIGHTS, Baseline
from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.fold import Fold, folded
from pso_attn.swarm.ranking import Merit, merit
from pso_attn.swarm.slots import slots
from pso_attn.types import Array, History, Proposal

Solution = Any  # cmaes.CatCMAwM.Solution: x, z, c, and _v_raw before rounding and clipping
Distribution = Any  # cmaes.CatCMAwM
Columns = NDArray[np.int64]

SPREAD = 2.0  # of cmaes' own first deviations; a sixth of the cube, as in Optuna
WIDEST_SPACE = 1024  # coordinates: 3 s a batch, and eight times as long with twice as many
WIDEST = 256  # with more values than this an integer is a line


@dataclass(frozen=True, eq=False)
class _Axes:
    """Which columns of a position are lines, ordered bins and labels, in cmaes' order."""

    lines: Columns
    bins: Columns
    labels: Columns
    sizes: NDArray[np.int64]

    @staticmethod
    def of(space: Space) -> "_Axes":
        levels = space.levels
        is_line = (levels == 0) | (levels > WIDEST)
        return _Axes(
            lines=np.flatnonzero(~space.categorical & is_line),
            bins=np.flatnonzero(~space.categorical & ~is_line),
            labels=np.flatnonzero(space.categorical),
            sizes=levels,
        )


@dataclass(frozen=True, eq=False)
class _Search:
    """The distribution, and what it is yet to be told: draws with what they are ranked by."""

    axes: _Axes
    distribution: Distribution
    pending: tuple[tuple[Solution, Merit], ...] = ()


class CovarianceAdaptation(Baseline):
    """CMA-ES with margin, for numbers, steps and labels (Hamano et al. 2025), by cmaes.

    The population is cmaes' own, rounded to whole batches. A generation is ranked by fidelity,
    then loss, failures last; one of failures only teaches nothing. Conditions are not looked at: a
    knob that does not act drifts.
    """

    name = "cmaes"
    _fold: Fold[_Search] | None = None

    def check_space(self, space: Space) -> None:
        """Raise ConfigurationError where every proposal would decompose too large a matrix."""
        if space.dimension > WIDEST_SPACE:
            raise ConfigurationError(
                f"sampler cmaes keeps a covariance of all pairs of up to {WIDEST_SPACE} "
                f"coordinates, and this space has {space.dimension}; choose {FOR_WEIGHTS}"
            )

    def propose(self, space: Space, history: History) -> Proposal:
        """Return draws from the distribution after that history."""
        generation = len(history)
        self._fold = folded(self._fold, space, history, self._first, self._after)
        search = self._fold.state
        solutions = self._drawn(search, generation)
        positions = _positions(space, search.axes, solutions)
        particles = slots(generation, self.batch, self.particles)
        return Proposal(space.with_starts(positions, generation * self.batch), particles)

    def _first(self, space: Space) -> _Search:
        from cmaes import CatCMAwM  # slow: it loads scipy's distributions

        axes = _Axes.of(space)
        distribution = CatCMAwM(
            x_space=[[0.0, 1.0]] * len(axes.lines) or None,
            z_space=[range(axes.sizes[column]) for column in axes.bins] or None,
            c_space=axes.sizes[axes.labels] if len(axes.labels) else None,
            population_size=population(space.dimension, self.batch),
            sigma=SPREAD,
        )
        return _Search(axes, distribution)

    def _after(self, space: Space, history: History, search: _Search, generation: int) -> _Search:
        """Return the search after one more generation."""
        solutions = self._drawn(search, generation)
        drawn = _positions(space, search.axes, solutions)
        pending = list(search.pending)
        trials = history.generations[generation]
        for trial, position, solution in zip(trials, drawn, solutions, strict=True):
            trained = _trained(space, search.axes, trial.candidate.position, position, solution)
            pending.append((trained, merit(history, trial)))
        size = search.distribution.population_size
        if len(pending) < size:
            return _Search(search.axes, search.distribution, tuple(pending))
        distribution = told(search.distribution, pending[:size])
        return _Search(search.axes, distribution, tuple(pending[size:]))

    def _drawn(self, search: _Search, generation: int) -> list[Solution]:
        """Return one generation's draws; the same again whenever they are asked for."""
        rng = generator(self.seed, generation, "cmaes")
        search.distribution.reseed_rng(int(rng.integers(2**31)))
        return [search.distribution.ask() for _ in range(self.batch)]


def population(dimension: int, batch: int) -> int:
    """Return how many trials make one generation of CMA-ES: cmaes' default in whole batches.

    The multiple of the batch nearest to 4 + 3 ln D (Hansen 2016), and at least 4.
    """
    usual = 4 + math.floor(3 * math.log(dimension))
    return batch * max(round(usual / batch), math.ceil(4 / batch))


def told(distribution: Any, results: Sequence[tuple[Any, Merit]]) -> Any:
    """Return a distribution of cmaes after one generation of its own, told by ranks.

    results: its draws with their merits. The same distribution where all of them failed.
    """
    if all(np.isinf(loss) for _, (_, loss) in results):
        return distribution
    ranked = sorted(results, key=lambda result: result[1])
    after = copy.deepcopy(distribution)
    with np.errstate(all="ignore"):  # cmaes divides by what vanishes when a distribution narrows
        after.tell([(solution, float(rank)) for rank, (solution, _) in enumerate(ranked)])
    return after


def _positions(space: Space, axes: _Axes, solutions: Sequence[Solution]) -> Array:
    """Return where draws lie, (B, D)."""
    positions = np.empty((len(solutions), space.dimension))
    for position, solution in zip(positions, solutions, strict=True):
        if len(axes.lines):
            position[axes.lines] = solution.x
        for k, column in enumerate(axes.bins):
            position[column] = _centre(space, column, int(solution.z[k]))
        for k, column in enumerate(axes.labels):
            position[column] = _centre(space, column, int(np.argmax(solution.c[k])))
    return positions


def _centre(space: Space, column: int, place: int) -> float:
    scale: Any = space.coordinates[column].scale
    centre: float = scale.point(scale.values[place])
    return centre


def _place(space: Space, column: int, x: float) -> int:
    scale: Any = space.coordinates[column].scale
    place: int = scale.values.index(scale.value(x))
    return place


def _trained(
    space: Space, axes: _Axes, stored: Array, drawn: Array, solution: Solution
) -> Solution:
    """Return the draw as it was trained: as it was asked wherever the position is unchanged."""
    raw, choices = solution._v_raw, solution.c
    if raw is not None:
        numbers = np.concatenate([axes.lines, axes.bins])
        places = [_place(space, column, stored[column]) for column in axes.bins]
        where = np.concatenate([stored[axes.lines], np.array(places, dtype=np.float64)])
        raw = np.where(stored[numbers] == drawn[numbers], raw, where)
    if choices is not None:
        chosen = [_place(space, column, stored[column]) for column in axes.labels]
        choices = np.arange(choices.shape[1]) == np.array(chosen)[:, None]
    return replace(solution, c=choices, _v_raw=raw)
