"""How a weight search's best do on the untouched test split, beside what they are held against.

Weights are scored as they are and trained on no fresh seed, so it is the examples that chance
draws: the test split is cut into parts, and finalists are compared with the untouched weights part
by part.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from pso_attn.checkpoints import load_checkpoint
from pso_attn.controls import CONTROLS, row_of
from pso_attn.parts import Parts
from pso_attn.types import Settings, Trial

if TYPE_CHECKING:  # what loads torch would slow down --help
    from torch import Tensor

    from pso_attn.evaluate import Scored
    from pso_attn.evaluate.weights import Fitness

PARTS = 10
UNIT = "test part"  # what values are paired over


def score_finalists(
    parts: Parts, checkpoints: Path, trials: Sequence[Trial], searched_trials: int
) -> "tuple[list[list[Scored]], list[Scored], dict[str, Mapping[str, float]]]":
    """Return each trial's metrics on every part of the test split and on all, controls' on all.

    trials: in place of the first, the weights before the search are scored. checkpoints: the run's
    folder of models. Controls are there once the search has finished: those of `searched_trials`.
    A metric of the whole split need not be the mean over its parts: an RMSE is not.
    """
    assert parts.weights is not None
    fitness = parts.weight_trainer().fitness(checkpoints)
    searched = fitness.searched
    rows = [searched.used(searched.untouched[None])]
    rows += [row_of(parts, fitness, trial) for trial in trials[1:]]
    pairs = [(trial.candidate.settings, row) for trial, row in zip(trials, rows, strict=True)]
    kept = load_checkpoint(checkpoints / CONTROLS)
    is_current = kept is not None and kept.about["trials"] == searched_trials
    controls = kept.tensors if kept is not None and is_current else {}
    settings = parts.weights.start.settings
    scored = {
        name: _scored(fitness, settings, row[None], slice(None)).metrics
        for name, row in controls.items()
        if name != "untouched"
    }
    return (
        [_by_part(fitness, *pair) for pair in pairs],
        [_scored(fitness, *pair, slice(None)) for pair in pairs],
        {name: metrics for name, metrics in scored.items() if metrics is not None},
    )


def _by_part(fitness: "Fitness", settings: Settings, row: "Tensor") -> "list[Scored]":
    return [_scored(fitness, settings, row, part) for part in _parts(fitness)]


def _parts(fitness: "Fitness") -> list[slice]:
    """Return the parts of the test split: every tenth example, of forecasts runs of windows.

    Windows that begin a step apart share all but one of the steps that are asked. So a window is
    left out that reaches into the next part, and there are as many parts as keep half of theirs.
    """
    from pso_attn.tasks.forecast_task import ForecastTask

    examples, horizon = len(fitness.split("test")), fitness.task.info.horizon
    most = min(PARTS, examples)
    if not isinstance(fitness.task, ForecastTask):
        return [slice(part, None, most) for part in range(most)]
    asked, parts = fitness.task.asked["test"], [slice(0, examples)]
    for count in range(2, most + 1):
        borders = [part * examples // count for part in range(count + 1)]
        ends = [*asked[borders[1:-1]], inf]
        kept = [
            int((asked[first:last] + horizon <= end).sum())
            for (first, last), end in zip(pairwise(borders), ends, strict=True)
        ]
        if min(kept) * 2 * count < examples:
            break
        parts = [slice(first, first + few) for first, few in zip(borders, kept, strict=False)]
    return parts


def _scored(fitness: "Fitness", settings: Settings, row: "Tensor", chosen: slice) -> "Scored":
    from pso_attn.evaluate import Scored

    [score] = fitness.score_part([settings], row.to(fitness.device), "test", chosen)
    return Scored(None if score.error else score.metrics, score.error, 0.0)
