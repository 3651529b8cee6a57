"""One generation of a weight search, scored and not stored, to tell what the whole will take."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.swarm_trainer import cost
from pso_attn.evaluate.weights.fitness import Fitness
from pso_attn.types import Budget, Generation, Settings

ALONE = 3  # models that are timed one by one
REPEATS = 3  # of each timing; the quickest counts


def rehearse_weights(
    fitness: Fitness, generation: Generation, budget: Budget, knobs: int
) -> dict[str, Any]:
    """Return what was measured on a planned generation; nothing is stored.

    seconds_per_evaluation: batched, metrics included. seconds_per_evaluation_alone: of a plain
    module. search_seconds: all generations, without the training
    before and the control after. knobs: coordinates of a position that are settings.
    """
    candidates = [one for one in generation.candidates if not one.violations]
    settings = [one.settings for one in candidates]
    positions = torch.stack([torch.from_numpy(one.position[knobs:]) for one in candidates]).float()
    seeds = candidates[0].seeds
    batched = min(_seconds(fitness, settings, positions, seeds) for _ in range(REPEATS))
    rows = fitness.searched.rows(fitness.searched.vectors(positions[:ALONE].to(fitness.device)))
    alone = min(_alone_seconds(fitness, settings, rows, seeds) for _ in range(REPEATS))
    costs = [cost(one, fitness.task.info) for one in settings]
    return {
        "evaluations_per_generation": len(candidates),
        "seconds_per_evaluation": batched / len(candidates),
        "seconds_per_evaluation_alone": alone,
        "batching_gain": alone * len(candidates) / batched,
        "memory_bytes_per_chunk": sum(one["memory_bytes"] for one in costs),
        "search_seconds": batched * budget.generations,
    }


def _seconds(
    fitness: Fitness, settings: Sequence[Settings], positions: Tensor, seeds: Sequence[int]
) -> float:
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
        began = time.perf_counter()
        for data in scored:
            fitness.task.score(model(data.inputs)[None], data.targets[None])
        taken.append(time.perf_counter() - began)
    return sum(taken) / len(taken)
