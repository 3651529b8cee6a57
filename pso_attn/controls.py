"""What a weight search is held against once it has finished: `control.json` beside the run."""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from pso_attn.checkpoints import save_checkpoint
from pso_attn.parts import Parts
from pso_attn.runs import CONTROL, best_trial
from pso_attn.store import RunFolder
from pso_attn.types import History, Trial

if TYPE_CHECKING:  # what loads torch would slow down --help
    from torch import Tensor

    from pso_attn.evaluate.weights import Fitness

SCHEMA = 1
CONTROLS = "control.safetensors"  # the searched weights of each control, (M,), as models use them


def hold_against(
    parts: Parts,
    history: History,
    folder: RunFolder,
    on_step: Callable[[int, int], None] | None = None,
    deadline_s: float = inf,
) -> dict[str, Any] | None:
    """Return what stands beside the search's best, and leave it in the run's folder.

    Untouched weights, gradient descent with as many forward passes as the search had, and of
    several checkpoints the best single one and two soups. None where no trial completed, or the
    time was over first. What was done for as many trials before is read and not done again.
    """
    assert parts.weights is not None
    found = folder.read_json(CONTROL)
    best = best_trial(history)
    if best is None:
        return None
    if found is not None and found["trials"] == len(history.trials):
        return dict(found)
    import torch

    from pso_attn.evaluate.weights import descend, examples_spent, soups

    fitness = parts.weight_trainer().fitness(folder.checkpoints)
    settings, objective = parts.weights.start.settings, parts.objectives[0]
    searched = fitness.searched
    start = searched.untouched[None]
    rows: dict[str, Tensor] = {"untouched": searched.used(start)}
    if searched.table.mode == "checkpoints":
        made = soups(fitness, settings, objective)
        rows |= {name: searched.used(row) for name, row in made.items()}
        start = made["best single model"]
    per_trial = examples_spent(fitness, settings, best.candidate.seeds, 1)
    spent = len(history.trials) * per_trial
    descended = descend(fitness, settings, objective, start, spent, per_trial, on_step, deadline_s)
    if descended is None:
        return None
    rows["gradient"] = descended.row
    scores = fitness.score_rows([settings] * len(rows), torch.cat(list(rows.values())))
    ours = fitness.score_rows([best.candidate.settings], row_of(parts, fitness, best))[0]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "trials": len(history.trials),
        "objective": objective.name,
        "split": searched.table.split,
    }
    for name, score in zip(rows, scores, strict=True):
        document[name] = {"fitness": score.value, "validation": dict(score.metrics)}
    document["gradient"] |= {
        "steps": descended.steps,
        "seconds": descended.seconds,
        "curve": descended.curve,
    }
    document["best"] = {
        "trial": best.number,
        "fitness": ours.value,
        "validation": dict(ours.metrics),
        "evaluations": len(history.trials),
        "seconds": sum(trial.outcome.seconds for trial in history.trials),
    }
    save_checkpoint(
        folder.checkpoints / CONTROLS,
        {name: row[0] for name, row in rows.items()},
        {"trials": len(history.trials)},
    )
    folder.write_json(CONTROL, document)
    return document


def row_of(parts: Parts, fitness: "Fitness", trial: Trial) -> "Tensor":
    """Return the searched weights of a trial as its model uses them, (1, M)."""
    import torch

    knobs = len(parts.space.coordinates)
    position = torch.from_numpy(trial.position[None, knobs:]).float()
    return fitness.searched.rows(fitness.searched.vectors(position.to(fitness.device)))
