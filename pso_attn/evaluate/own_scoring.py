"""An objective of one's own outside a search: on the test split, and to tell what one takes."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pso_attn.errors import TrainingError
from pso_attn.evaluate.device import check_usable
from pso_attn.evaluate.own_answers import read_answer
from pso_attn.evaluate.own_code import OwnCodeError, why
from pso_attn.evaluate.own_trainer import OwnObjective
from pso_attn.evaluate.own_trial import Ladder, OwnTrial
from pso_attn.evaluate.swarm_runs import Scored
from pso_attn.types import Budget, Generation, Objective, Settings


def score_objective(
    function: OwnObjective,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    budget: Budget,
    objective: Objective,
    split: str,
    report: Callable[[int, int], None] | None = None,
) -> list[Scored]:
    """Return what a function gives for each (settings, seed) pair on a split; nobody leaves.

    report: called with (trainings done, in all).
    """
    pairs = list(zip(settings, seeds, strict=True))
    batches = [pairs] if function.batched else [[pair] for pair in pairs]
    scored: list[Scored] = []
    while batches:
        batch, *batches = batches
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            ladder = Ladder(budget, objective, None)
            trials = [
                OwnTrial(ladder, k, seed, function.device, Path(folder) / str(k), split)
                for k, (_, seed) in enumerate(batch)
            ]
            try:
                answers = function([one for one, _ in batch], trials)
            except Exception as error:  # a user's function may raise anything
                check_usable(error)
                if len(batch) > 1:
                    batches = [[pair] for pair in batch] + batches
                    continue
                scored.append(Scored(None, why(function.name, error), 0.0))
            else:
                seconds = (time.perf_counter() - start) / len(batch)
                scored += [
                    _scored(answer, objective, function.name, seconds) for answer in answers
                ]
        if report is not None:
            report(len(scored), len(pairs))
    return scored


def train_objective(
    function: OwnObjective,
    settings: Settings,
    seed: int,
    budget: Budget,
    steps: int,
    objective: Objective,
    folder: Path,
) -> tuple[dict[str, float], dict[int, float]]:
    """Return the metrics and the curve of one training of `steps`, which nobody tells to leave.

    budget: the search's, whose steps `fidelity` is a share of. folder: its checkpoint_dir. Raises
    TrainingError where the function fails.
    """
    ladder = Ladder(replace(budget, steps=steps), objective, None)
    fidelity = steps / budget.steps
    trial = OwnTrial(ladder, 0, seed, function.device, folder, "validation", fidelity)
    try:
        (answer,) = function([settings], [trial])
        metrics = read_answer(answer, objective.name, function.name)
    except Exception as error:  # a user's function may raise anything
        raise TrainingError(why(function.name, error)) from error
    return metrics, {**trial.run.curve, steps: metrics[objective.name]}


def rehearse_objective(
    function: OwnObjective, generation: Generation, budget: Budget, objective: Objective
) -> dict[str, Any]:
    """Return what a whole evaluation of the first particle took; nothing is stored.

    seconds_per_training: of it. search_seconds: all generations at that pace, none leaving early;
    a batched function is asked for one particle alone, so at most. Raises TrainingError where the
    particle fails.
    """
    trained = [candidate for candidate in generation.candidates if not candidate.violations]
    trainings = sum(len(candidate.seeds) for candidate in trained)
    settings, seeds = [trained[0].settings], trained[0].seeds[:1]
    (scored,) = score_objective(function, settings, seeds, budget, objective, "validation")
    if scored.error is not None:
        raise TrainingError(f"the first particle that is trained fails: {scored.error}")
    return {
        "trainings_per_generation": trainings,
        "seconds_per_training": scored.seconds,
        "search_seconds": scored.seconds * trainings * budget.generations,
    }


def _scored(answer: Any, objective: Objective, name: str, seconds: float) -> Scored:
    try:
        return Scored(read_answer(answer, objective.name, name), None, seconds)
    except OwnCodeError as error:
        return Scored(None, str(error), seconds)
