"""What a weight search is held against: gradient descent at equal compute, and soups."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from torch import Tensor

from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.weights.descent import Descent
from pso_attn.evaluate.weights.fitness import Fitness, Score
from pso_attn.seeding import training_seed
from pso_attn.types import Objective, Settings

FORWARDS = 3  # forward passes that a training step takes: its backward pass counts for two
SCORED = 20  # times that a descent is scored on its way
SEED = 2  # the training seed of the descent, beside those of `searched`


@dataclass(frozen=True, eq=False)
class Descended:
    """The best of a descent, by validation.

    row: (1, M), the searched weights as the model uses them. curve: what it had done at each
    scoring: evaluations of equal compute, seconds, the fitness on the whole split.
    """

    score: Score
    row: Tensor
    steps: int
    seconds: float
    curve: list[tuple[float, float, float]]


def equal_steps(examples: int, settings: Settings) -> int:
    """Return how many training steps cost what `examples` forward passes of one example do."""
    return max(1, round(examples / step_examples(settings)))


def step_examples(settings: Settings) -> int:
    """Return how many forward passes of one example cost what a training step does."""
    return FORWARDS * read_recipe(settings).batch_size


def examples_spent(
    fitness: Fitness, settings: Settings, seeds: Sequence[int], evaluations: int
) -> int:
    """Return how many forward passes of one example so many evaluations cost.

    seeds: of the examples of one evaluation.
    """
    gradients = fitness.searched.table.gradient_steps * step_examples(settings)
    return evaluations * (len(fitness.examples(seeds)) + gradients)


def descend(
    fitness: Fitness,
    settings: Settings,
    objective: Objective,
    start: Tensor,
    examples: int,
    per_evaluation: int,
    on_step: Callable[[int, int], None] | None = None,
    deadline_s: float = inf,
) -> Descended | None:
    """Return what gradients reach from flat weights (1, M), with the forward passes of a search.

    start: not quantised. examples: passes in all, and per_evaluation: of one evaluation of the
    search, which the curve counts in. on_step: hears of steps done, and of how many. deadline_s:
    on the monotonic clock; None where it came first.
    """
    steps = equal_steps(examples, settings)
    vector = fitness.searched.coordinates.vector(start[0])[None]
    seed = training_seed(fitness.seed, SEED)
    descent = Descent(fitness, [settings], vector, [seed], steps)
    began, curve, best = time.perf_counter(), [], None
    for part in range(SCORED + 1):
        if time.monotonic() >= deadline_s:
            return None
        until = steps * part // SCORED
        descent.advance(until)
        row = fitness.searched.rows(descent.vectors)
        score = fitness.score_rows([settings], row)[0]
        done = until * step_examples(settings) / per_evaluation
        curve.append((done, time.perf_counter() - began, score.value))
        if on_step is not None:
            on_step(until, steps)
        if best is None or _loss(objective, score) < _loss(objective, best[0]):
            best = score, row.clone()
    assert best is not None, "the start is scored"
    return Descended(*best, steps, time.perf_counter() - began, curve)


def soups(fitness: Fitness, settings: Settings, objective: Objective) -> dict[str, Tensor]:
    """Return what is made of several checkpoints without a search, as flat rows (1, M) by name.

    The best single model, the mean of all, and the greedy soup (Wortsman et al. 2022, arXiv
    2203.05482, recipe 1): models join it in the order of their scores while it does not get worse.
    Scores are those of the validation split.

    Rows are not quantised; scores are of what the model makes of them.
    """
    rows = fitness.searched.checkpoints

    def losses_of(mixed: Tensor) -> list[float]:
        scores = fitness.score_rows([settings] * len(mixed), fitness.searched.used(mixed))
        return [_loss(objective, score) for score in scores]

    losses = losses_of(rows)
    order = sorted(range(len(rows)), key=losses.__getitem__)
    members, best = [order[0]], losses[order[0]]
    for candidate in order[1:]:
        mixed = rows[[*members, candidate]].mean(0, keepdim=True)
        loss = losses_of(mixed)[0]
        if loss <= best:
            members, best = [*members, candidate], loss
    return {
        "best single model": rows[order[:1]],
        "uniform soup": rows.mean(0, keepdim=True),
        "greedy soup": rows[members].mean(0, keepdim=True),
    }


def _loss(objective: Objective, score: Score) -> float:
    """Return a score's loss: by validation, where the objective is a metric of the task.

    Infinity for a score that is an error, so that anything else is better.
    """
    if score.error:
        return inf
    return objective.loss(score.metrics.get(objective.name, score.value))
