"""Modules of a user's own outside a search: to confirm finalists, and to tell what one takes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pso_attn.evaluate.module_training import ModuleMember, ModuleTraining
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.rehearsal import STEPS, enough_memory, told, whole_seconds
from pso_attn.evaluate.swarm_runs import Scored
from pso_attn.evaluate.training import divergence
from pso_attn.types import Budget, Generation, Settings


def train_modules(
    factory: OwnFactory,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    steps: int,
    device: torch.device,
    split: str = "validation",
    report: Callable[[int, int], None] | None = None,
) -> list[Scored]:
    """Return the result of each (settings, seed) pair at full length, as `train_swarm` does.

    Raises what a module raises.
    """
    start = time.perf_counter()
    members = [ModuleMember.of(s, seed) for s, seed in zip(settings, seeds, strict=True)]
    training = ModuleTraining(factory, members, steps, device)
    for until in sorted({max(1, steps * part // 20) for part in range(1, 21)}):
        training.advance(until)
        if report is not None:
            report(until, steps)
    found = zip(training.rows, training.score(split), training.first_bad_steps(), strict=True)
    results = {}
    for row, metrics, bad in found:
        error = divergence(bad, metrics, steps)
        seconds = (time.perf_counter() - start) / len(members)
        results[row] = Scored(None if error else metrics, error, seconds)
    return [results[row] for row in range(len(members))]


def rehearse_modules(
    factory: OwnFactory, generation: Generation, budget: Budget, device: torch.device
) -> dict[str, Any]:
    """Return what was measured on the chunks of a planned generation, as `rehearse` does.

    batching_gain: of modules that are alike in one batch, over all of them one by one. Raises
    DeviceError where a chunk does not fit into memory.
    """
    by_trial = {candidate.trial: candidate for candidate in generation.candidates}
    batched = alone = 0.0
    memory, plans = list[list[int]](), list[str]()
    for chunk in generation.chunks:
        candidates = [by_trial[trial] for trial in chunk]
        members = [ModuleMember.of(c.settings, seed) for c in candidates for seed in c.seeds]
        each = [factory.cost(member.settings)["memory_bytes"] for member in members]
        needed = (
            f"{len(each)} trainings of a chunk need about {sum(each) / 2**20:.0f} MiB together; "
            "give a smaller budget.batch, batch_size or module, or use a device with more memory"
        )
        with enough_memory(device, needed):
            training = ModuleTraining(factory, members, STEPS, device)
            plans.append(str(training))
            ways = [training]
            if any(len(rows) > 1 for rows in training.groups):
                ways.append(ModuleTraining(factory, members, STEPS, device, False))
            seconds = whole_seconds(ways, budget, device)
        batched += seconds[0]
        alone += seconds[-1]
        memory.append(each)
    return told(batched, alone, plans, memory, [sum(row) for row in memory], budget)
