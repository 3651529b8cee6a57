"""Samplers on one space over paired seeds: who reached what, and whether that is chance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.report.inputs import VALIDATION
from pso_attn.report.words import count, listed
from pso_attn.space import read_weights
from pso_attn.types import Array, History, Objective

CHANCE = 0.05  # p from which on a lead is taken for chance
FEWEST_SEEDS = 6  # a sign test that all of fewer pairs agree in has p > .05


@dataclass(frozen=True, eq=False)
class Cell:
    """One search of a contest.

    history: as many generations as were planned. seconds: spent in the sampler's `propose`, None
    where that was not measured throughout.
    """

    sampler: str
    seed: int
    run: str
    history: History
    seconds: float | None


@dataclass(frozen=True, eq=False)
class Contest:
    """Samplers times seeds; every cell has the same space, data and budget.

    samplers: the first is the one that the others are held against. cells: one for each sampler
    and seed. configuration: the resolved document that they share. command: what makes it again.
    """

    name: str
    objective: Objective
    samplers: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    configuration: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def of(self, sampler: str) -> tuple[Cell, ...]:
        """Return a sampler's cells in the order of the seeds."""
        found = {cell.seed: cell for cell in self.cells if cell.sampler == sampler}
        return tuple(found[seed] for seed in self.seeds)

    def losses(self, sampler: str) -> Array:
        """Return the best loss so far, (seeds, trainings); infinite before anything completed."""
        return np.stack([_best_so_far(cell.history) for cell in self.of(sampler)])

    @property
    def split(self) -> str:
        """What the objective was taken on."""
        weights = self.configuration.get("weights")
        return read_weights(weights, self.name).split if weights else VALIDATION

    @property
    def each(self) -> str:
        """What an evaluation is: a training, unless weights are searched."""
        return "evaluation" if self.configuration.get("weights") else "training"

    @property
    def trainings(self) -> int:
        """How many evaluations each cell had."""
        return len(self.cells[0].history.trials)


@dataclass(frozen=True)
class Duel:
    """A sampler against the first one, seed by seed. p: two-sided sign test, None if all tie."""

    wins: int
    ties: int
    losses: int
    p: float | None

    @property
    def is_decided(self) -> bool:
        """Tell whether chance alone would seldom give so one-sided a result."""
        return self.p is not None and self.p < CHANCE


@dataclass(frozen=True)
class Standing:
    """What a sampler reached. median, better, worse: the objective itself, at the quartiles of
    the loss over seeds; infinite where too few searches completed anything. seconds: in
    `propose`, median over seeds. duel: against the first sampler; None for the first itself.
    """

    sampler: str
    median: float
    better: float
    worse: float
    mean_rank: float
    seconds: float | None
    duel: Duel | None


def standings(contest: Contest) -> tuple[Standing, ...]:
    """Return what each sampler reached, in the order of the contest.

    Ranks are over the samplers of one seed, 1 the best, ties sharing the mean of their places.
    """
    from scipy.stats import rankdata

    final = np.stack([contest.losses(sampler)[:, -1] for sampler in contest.samplers])
    ranks = rankdata(final, axis=0).mean(axis=1)  # (samplers, seeds) -> (samplers,)
    return tuple(
        Standing(
            sampler=sampler,
            median=contest.objective.loss(float(quantile(final[row], 0.5))),
            better=contest.objective.loss(float(quantile(final[row], 0.25))),
            worse=contest.objective.loss(float(quantile(final[row], 0.75))),
            mean_rank=float(ranks[row]),
            seconds=_median_seconds(contest.of(sampler)),
            duel=_duel(final[row], final[0]) if row else None,
        )
        for row, sampler in enumerate(contest.samplers)
    )


def quantile(losses: Array, share: float) -> NDArray[np.float64]:
    """Return the quantile over the first axis, interpolated; infinite where any part of it is."""
    ordered = np.sort(losses, axis=0)
    place = share * (len(ordered) - 1)
    low, high = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    with np.errstate(invalid="ignore"):  # inf - inf, which is not taken below
        between = low + (place - np.floor(place)) * (high - low)
    return np.asarray(np.where(np.isfinite(high), between, high))


def leader(found: tuple[Standing, ...]) -> Standing:
    """Return the sampler of the lowest mean rank, the earlier of equals."""
    return min(found, key=lambda standing: standing.mean_rank)


def verdict(contest: Contest, found: tuple[Standing, ...]) -> tuple[str, str]:
    """Return who ranks first and who completed nothing, and what of it chance does not explain."""
    first, seeds = contest.samplers[0], len(contest.seeds)
    shape = f"{count(seeds, 'seed')} of {count(contest.trainings, contest.each)} each"
    without = [s.sampler for s in found if not np.isfinite(contest.losses(s.sampler)[:, -1]).any()]
    if len(without) == len(found):
        said = f"Nothing completed in any search by {listed(without)}, over {shape}"
        return f"{said}, so nobody ranks first.", ""
    if len(found) == 1:
        return f"{first} alone, over {shape}: there is nothing to compare it with.", ""
    best = leader(found)
    equal = [s.sampler for s in found if s.mean_rank == best.mean_rank]
    ahead = f"{best.sampler} ranks first" if len(equal) == 1 else f"{listed(equal)} rank first"
    said = f"{ahead}: mean rank {best.mean_rank:.3g} of {len(found)} over {shape}."
    if without:
        said += f" Nothing completed in any search by {listed(without)}."
    decided = [s for s in found if s.duel is not None and s.duel.is_decided]
    beaten = [s.sampler for s in decided if s.duel and s.duel.losses > s.duel.wins]
    beating = [s.sampler for s in decided if s.duel and s.duel.wins > s.duel.losses]
    parts = [f"{first} is ahead of {listed(beaten)}"] if beaten else []
    parts += [f"{listed(beating)} ahead of {first}"] if beating else []
    if parts:
        return said, f"By the sign test at p < .05, {', and '.join(parts)}."
    doubt = f"Chance may explain every difference to {first}: no sign test has p < .05"
    if seeds < FEWEST_SEEDS:
        doubt += f", and it takes at least {FEWEST_SEEDS} seeds for one to have it"
    return said, f"{doubt}."


def _duel(mine: Array, theirs: Array) -> Duel:
    from scipy.stats import binomtest

    wins, losses = int((mine < theirs).sum()), int((mine > theirs).sum())
    decided = wins + losses
    p = float(binomtest(wins, decided, 0.5).pvalue) if decided else None
    return Duel(wins, len(mine) - decided, losses, p)


def _best_so_far(history: History) -> Array:
    losses = [history.loss(t) if t.is_full else float("inf") for t in history.trials]
    return np.minimum.accumulate(np.array(losses, dtype=float))


def _median_seconds(cells: tuple[Cell, ...]) -> float | None:
    spent = [cell.seconds for cell in cells if cell.seconds is not None]
    return float(np.median(spent)) if len(spent) == len(cells) else None
