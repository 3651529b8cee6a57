"""One generation of a weight search, scored and not stored, to tell what the whole will take."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pso_attn.errors import TrainingError
from pso_attn.evaluate.device import one_thread, wait_for
from pso_attn.evaluate.rehearsal import STEPS, TURN_STEPS, WARM_UP, enough_memory
from pso_attn.evaluate.swarm_trainer import cost
from pso_attn.evaluate.weights.control import SCORED, equal_steps, examples_spent
from pso_attn.evaluate.weights.descent import Descent
from pso_attn.evaluate.weights.fitness import Fitness
from pso_attn.types import Budget, Generation, Settings

ALONE = 3  # models that are timed one by one
REPEATS = 3  # of each timing; the quickest counts


def rehearse_weights(
    fitness: Fitness, generation: Generation, budget: Budget, knobs: int
) -> dict[str, Any]:
    """Return what was measured on a planned generation; nothing is stored.

    seconds_per_evaluation: batched, a hybrid's gradient steps and metrics included.
    seconds_per_evaluation_alone: of a plain module. search_seconds: all generations.
    control_seconds: of the gradient descent that a finished search is held against. knobs:
    coordinates of a position that are settings. Raises DeviceError where memory runs out, and
    TrainingError where a fitness of somebody's own fails for all of the generation.
    """
    candidates = [one for one in generation.candidates if not one.violations]
    settings = [one.settings for one in candidates]
    positions = torch.stack([torch.from_numpy(one.position[knobs:]) for one in candidates]).float()
    seeds, descending = candidates[0].seeds, fitness.searched.table.gradient_steps
    memory_bytes = sum(cost(one, fitness.task.info)["memory_bytes"] for one in settings)
    needed = (
        f"the models of a generation need about {memory_bytes / 2**20:.0f} MiB; give fewer "
        "budget.particles, a smaller model, or use a device with more memory"
    )
    with enough_memory(fitness.device, needed):
        errors = [score.error for score in fitness.score(settings, positions, seeds)]
        if fitness.own is not None and None not in errors:
            raise TrainingError(f"the first generation fails as a whole: {errors[0]}")
        batched = min(_seconds(fitness, settings, positions, seeds) for _ in range(REPEATS))
        vectors = fitness.searched.vectors(positions.to(fitness.device))
        rows = fitness.searched.rows(vectors[:ALONE])
        alone = min(_alone_seconds(fitness, settings, rows, seeds) for _ in range(REPEATS))
        if descending:
            batched += descending * _step_seconds(fitness, settings, vectors)
            alone += descending * _step_seconds(fitness, settings[:1], vectors[:1])
        control = _control_seconds(fitness, settings[0], budget, seeds)
    return {
        "evaluations_per_generation": len(candidates),
        "seconds_per_evaluation": batched / len(candidates),
        "seconds_per_evaluation_alone": alone,
        "batching_gain": alone * len(candidates) / batched,
        "memory_bytes_per_chunk": memory_bytes,
        "search_seconds": batched * budget.generations,
        "control_seconds": control,
    }


def _control_seconds(
    fitness: Fitness, settings: Settings, budget: Budget, seeds: Sequence[int]
) -> float:
    """Return what the descent takes that is held against a search of the whole budget."""
    examples = examples_spent(fitness, settings, seeds, budget.batch * budget.generations)
    start = fitness.searched.untouched[None]
    vector = fitness.searched.coordinates.vector(start[0])[None]
    rows = fitness.searched.used(start)
    fitness.score_rows([settings], rows)
    began = time.perf_counter()
    fitness.score_rows([settings], rows)
    scoring = time.perf_counter() - began
    steps = equal_steps(examples, settings)
    return steps * _step_seconds(fitness, [settings], vector) + (SCORED + 1) * scoring


def _step_seconds(fitness: Fitness, settings: Sequence[Settings], vectors: Tensor) -> float:
    """Return what one gradient step of vectors (N, n) takes."""
    descent = Descent(fitness, settings, vectors, range(len(vectors)), STEPS)
    descent.advance(WARM_UP)
    taken = []
    for until in range(WARM_UP + TURN_STEPS, STEPS + 1, TURN_STEPS):
        wait_for(fitness.device)
        began = time.perf_counter()
        descent.advance(until)
        wait_for(fitness.device)
        taken.append((time.perf_counter() - began) / TURN_STEPS)
    return median(taken)


def _seconds(
    fitness: Fitness, settings: Sequence[Settings], positions: Tensor, seeds: Sequence[int]
) -> float:
    wait_for(fitness.device)
    began = time.perf_counter()
    fitness.score(settings, positions, seeds)
    return time.perf_counter() - began


@one_thread()
@torch.no_grad()
def _alone_seconds(
    fitness: Fitness, settings: Sequence[Settings], rows: Tensor, seeds: Sequence[int]
) -> float:
    """Return the mean time of one model by itself on the examples of an evaluation."""
    scored = [fitness.examples(seeds), fitness.seen]
    taken = []
    for one, row in zip(settings, rows, strict=False):
        model = fitness.plain(one, row[None])
        wait_for(fitness.device)
        began = time.perf_counter()
        for data in scored:
            fitness.task.score(model(data.inputs)[None], data.targets[None])
        wait_for(fitness.device)
        taken.append(time.perf_counter() - began)
    return sum(taken) / len(taken)
