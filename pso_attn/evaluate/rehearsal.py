"""A few steps of the first generation, to tell what the whole search will take."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import ceil
from statistics import median
from typing import Any

import torch

from pso_attn.errors import DeviceError
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.chunk import Training
from pso_attn.evaluate.device import (
    idle_threads,
    is_out_of_memory,
    threads_of_each,
    wait_for,
)
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.planner import Planner, sample
from pso_attn.evaluate.room import check_machine, chunk_bytes, in_words
from pso_attn.evaluate.rungs import scored_steps
from pso_attn.evaluate.tiles import Cut, TiledTraining, with_helpers
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Generation

WARM_UP, TURNS, TURN_STEPS = 3, 3, 4  # untimed steps, then turns of so many timed ones
STEPS = WARM_UP + TURNS * TURN_STEPS


def rehearse(
    generation: Generation, task: Task, budget: Budget, device: torch.device, workers: int = 1
) -> dict[str, Any]:
    """Return what was measured on the chunks of a planned generation; nothing is stored.

    workers: who share the cores when it is trained; here they are timed one after another.
    seconds_per_training: batched, at full length, the scoring included. batching_gain: time of
    trainings one by one with plain modules, on as many threads, / batched, both measured now and
    in turns; what the planner once predicted is not said beside it. plans: how each chunk is cut,
    in words. memory_bytes_per_training, memory_bytes_per_chunk: the largest, estimated.
    search_seconds: all generations at full length, so at most; early leaving saves some of it.
    Raises DeviceError where a chunk does not fit into memory.
    """
    particles = (own for chunk in _members(generation, task) for own in chunk)
    trained = (task.info, budget.steps, len(task.validation))
    largest = max(particles, key=lambda own: chunk_bytes(own, *trained))
    seeds, fewer = "", ""
    if len(largest) > 1:
        seeds, fewer = f" for its {len(largest)} seeds", "give fewer budget.seeds, "
    needed = (
        "the largest particle of the first generation needs "
        f"{in_words(largest, *trained)}{seeds}; narrow the space's batch_size, "
        f"width, layers or steps, {fewer}or use a device with more memory"
    )
    with enough_memory(device, needed):
        return _rehearsed(generation, task, budget, device, workers)


@contextmanager
def enough_memory(device: torch.device, needed: str) -> Iterator[None]:
    """Raise DeviceError where memory runs out within the block. needed: how much, what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"memory ran out on {device}: {needed}") from error


def _rehearsed(
    generation: Generation, task: Task, budget: Budget, device: torch.device, workers: int
) -> dict[str, Any]:
    threads = min(idle_threads(device), threads_of_each(workers))
    batched = alone = 0.0
    memory, chunks, plans = list[list[int]](), list[int](), list[str]()
    trained = (task.info, budget.steps, len(task.validation))
    planner = Planner(task, device)
    for particles in _members(generation, task):
        members = [member for own in particles for member in own]
        check_machine(members, task.info, budget.steps, device)
        planned = planner.forecast(members, budget.steps, threads, times=budget.generations)
        plans.append(planned.words)

        def seconds(cut: Cut, members: Sequence[Member] = members) -> list[float]:
            training = TiledTraining(task, members, STEPS, device, cut, helpers=planner.helpers)
            alone = (AloneTraining(task, member, STEPS, device) for member in sample(members))
            return whole_seconds([training, *alone], budget, device)

        together, *each = with_helpers(planned.cut, seconds)
        batched += together
        alone += sum(each) / len(each) * ceil(len(members) / planned.cut.threads)
        memory.append([chunk_bytes([member], *trained) for member in members])
        chunks.append(chunk_bytes(members, *trained))
    return told(batched, alone, plans, memory, chunks, budget)


def _members(generation: Generation, task: Task) -> list[list[list[Member]]]:
    """Return the trainings of each particle of each chunk."""
    by_trial = {candidate.trial: candidate for candidate in generation.candidates}
    return [
        [
            [read_member(by_trial[trial].settings, seed, task) for seed in by_trial[trial].seeds]
            for trial in chunk
        ]
        for chunk in generation.chunks
    ]


def told(
    batched: float,
    alone: float,
    plans: list[str],
    memory: Sequence[Sequence[int]],
    chunks: Sequence[int],
    budget: Budget,
) -> dict[str, Any]:
    """Return what was measured on a generation as `--dry-run` says it.

    batched, alone: seconds of all its trainings as planned, and one by one. memory: bytes of each
    training, a row for each chunk. chunks: bytes of each chunk, whose trainings may share some.
    """
    trainings = sum(map(len, memory))
    return {
        "trainings_per_generation": trainings,
        "seconds_per_training": batched / trainings,
        "seconds_per_training_alone": alone / trainings,
        "batching_gain": alone / batched,
        "plans": plans,
        "memory_bytes_per_training": max(max(row) for row in memory),
        "memory_bytes_per_chunk": max(chunks),
        "search_seconds": batched * budget.generations,
    }


def whole_seconds(
    trainings: Sequence[Training | AloneTraining], budget: Budget, device: torch.device
) -> list[float]:
    """Return what the full budget would take each, from a few of its `STEPS` steps and scorings.

    They take turns, so that whatever else the machine does falls on all of them alike; the median
    of a training's turns counts.
    """

    def seconds(work: Callable[[], object]) -> float:
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        return time.perf_counter() - start

    for training in trainings:
        training.advance(WARM_UP)
    turns = [
        [(seconds(partial(one.advance, until)), seconds(one.score)) for one in trainings]
        for until in range(WARM_UP + TURN_STEPS, STEPS + 1, TURN_STEPS)
    ]
    return [
        median(advancing for advancing, _ in own) / TURN_STEPS * budget.steps
        + median(scoring for _, scoring in own) * len(scored_steps(budget))
        for own in zip(*turns, strict=True)
    ]
