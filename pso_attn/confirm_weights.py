"""How a weight search's best do on the untouched test split, beside what they are held against.

Weights are scored as they are and trained on no fresh seed, so it is the examples that chance
draws: the test split is cut into parts, and finalists are compared with the untouched weights part
by part.
"""

from collections.abc import Mapping, Sequence
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
    parts: Parts, checkpoints: Path, trials: Sequence[Trial]
) -> "tuple[list[list[Scored]], dict[str, Mapping[str, float]]]":
    """Return each trial's metrics on every part of the test split, each control's on all of it.

    trials: in place of the first, the weights before the search are scored. checkpoints: the run's
    folder of models. Controls are there once the search has finished.
    """
    assert parts.weights is not None
    fitness = parts.weight_trainer().fitness(checkpoints)
    searched = fitness.searched
    rows = [searched.used(searched.untouched[None])]
    rows += [row_of(parts, fitness, trial) for trial in trials[1:]]
    results = [
        _by_part(fitness, trial.candidate.settings, row)
        for trial, row in zip(trials, rows, strict=True)
    ]
    kept = load_checkpoint(checkpoints / CONTROLS)
    controls = {} if kept is None else kept.tensors
    settings = parts.weights.start.settings
    return results, {
        name: _metrics(fitness, settings, row[None], slice(None))
        for name, row in controls.items()
        if name != "untouched"
    }


def _by_part(fitness: "Fitness", settings: Settings, row: "Tensor") -> "list[Scored]":
    from pso_attn.evaluate import Scored

    count = min(PARTS, len(fitness.split("test")))
    rows = [slice(part, None, count) for part in range(count)]
    return [Scored(_metrics(fitness, settings, row, chosen), None, 0.0) for chosen in rows]


def _metrics(
    fitness: "Fitness", settings: Settings, row: "Tensor", chosen: slice
) -> Mapping[str, float]:
    return fitness.metrics([settings], row.to(fitness.device), "test", chosen)[0]
