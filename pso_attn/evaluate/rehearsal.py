"""A few steps of the first generation, to tell what the whole search will take."""

import time
from collections.abc import Sequence
from math import ceil
from typing import Any

import torch

from pso_attn.errors import DeviceError
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.chunk import Training
from pso_attn.evaluate.device import is_out_of_memory, wait_for
from pso_attn.evaluate.packing import memory_bytes
from pso_attn.evaluate.planner import Planner, sample
from pso_attn.evaluate.rungs import scored_steps
from pso_attn.evaluate.tiles import Cut, TiledTraining, with_helpers
from pso_attn.evaluate.training import Member, read_member
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Generation

STEPS, WARM_UP = 12, 3  # timed steps, untimed ones before


def rehearse(
    generation: Generation, task: Task, budget: Budget, device: torch.device
) -> dict[str, Any]:
    """Return what was measured on the chunks of a planned generation; nothing is stored.

    seconds_per_training: batched, at full length, the scoring included. batching_gain: time of
    trainings one by one with plain modules, on as many threads, / batched. plans: how each chunk
    is cut, in words. memory_bytes_per_training,
    memory_bytes_per_chunk: the largest, estimated. search_seconds: all generations at full
    length, so at most; early leaving saves some of it. Raises DeviceError where a chunk does not
    fit into memory.
    """
    try:
        return _rehearsed(generation, task, budget, device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        by_trial = {candidate.trial: candidate for candidate in generation.candidates}
        largest = max(
            memory_bytes(read_member(by_trial[trial].settings, 0, task), task.info)
            for chunk in generation.chunks
            for trial in chunk
        )
        raise DeviceError(
            f"memory ran out on {device}: the largest training of the first generation needs "
            f"about {largest / 2**20:.0f} MiB; narrow the space's batch_size, width or layers, "
            "or use a device with more memory"
        ) from error


def _rehearsed(
    generation: Generation, task: Task, budget: Budget, device: torch.device
) -> dict[str, Any]:
    by_trial = {candidate.trial: candidate for candidate in generation.candidates}
    batched = alone = 0.0
    memory, plans = list[list[int]](), list[str]()
    planner = Planner(task, device)
    for chunk in generation.chunks:
        members = [
            read_member(by_trial[trial].settings, seed, task)
            for trial in chunk
            for seed in by_trial[trial].seeds
        ]
        forecast = planner.forecast(members, budget.steps, times=budget.generations)
        plans.append(str(forecast))
        threads = forecast.cut.threads

        def seconds(cut: Cut, members: Sequence[Member] = members) -> float:
            steps, helpers = STEPS + WARM_UP, planner.helpers
            training = TiledTraining(task, members, steps, device, cut, helpers=helpers)
            return whole_seconds(training, budget, device)

        batched += with_helpers(forecast.cut, seconds)
        alone += _alone_seconds(task, members, budget, device) * ceil(len(members) / threads)
        memory.append([memory_bytes(member, task.info) for member in members])
    return told(batched, alone, plans, memory, budget)


def told(
    batched: float,
    alone: float,
    plans: list[str],
    memory: Sequence[Sequence[int]],
    budget: Budget,
) -> dict[str, Any]:
    """Return what was measured on a generation as `--dry-run` says it.

    batched, alone: seconds of all its trainings as planned, and one by one. memory: bytes of each
    training, a row for each chunk.
    """
    trainings = sum(map(len, memory))
    return {
        "trainings_per_generation": trainings,
        "seconds_per_training": batched / trainings,
        "seconds_per_training_alone": alone / trainings,
        "batching_gain": alone / batched,
        "plans": plans,
        "memory_bytes_per_training": max(max(row) for row in memory),
        "memory_bytes_per_chunk": max(sum(row) for row in memory),
        "search_seconds": batched * budget.generations,
    }


def _alone_seconds(
    task: Task, members: Sequence[Member], budget: Budget, device: torch.device
) -> float:
    """Return the mean time of one training by itself."""
    chosen = sample(members)
    total = 0.0
    for member in chosen:
        total += whole_seconds(
            AloneTraining(task, member, STEPS + WARM_UP, device), budget, device
        )
    return total / len(chosen)


def whole_seconds(
    training: Training | AloneTraining, budget: Budget, device: torch.device
) -> float:
    """Return what the full budget would take, from a few steps and one scoring."""
    training.advance(WARM_UP)
    wait_for(device)
    start = time.perf_counter()
    training.advance(WARM_UP + STEPS)
    wait_for(device)
    trained = time.perf_counter()
    training.score()
    scoring = time.perf_counter() - trained
    return (trained - start) / STEPS * budget.steps + scoring * len(scored_steps(budget))
