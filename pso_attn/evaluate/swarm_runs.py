"""Trainings outside a search, at full length: to confirm finalists, and to measure noise."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.tiles import Cut, TiledTraining, with_helpers
from pso_attn.evaluate.training import divergence
from pso_attn.tasks.task import Task
from pso_attn.types import Settings


@dataclass(frozen=True)
class Scored:
    """One training's metrics on a split, or why there are none. seconds: its share of the job."""

    metrics: Mapping[str, float] | None
    error: str | None
    seconds: float


def train_swarm(
    task: Task,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    steps: int,
    device: torch.device,
    split: str = "validation",
    report: Callable[[int, int], None] | None = None,
) -> list[Scored]:
    """Return the result of each (settings, seed) pair, trained together at full length.

    settings, seeds: of equal length. report: called with (steps done, steps in all).
    """
    members = [[read_member(s, seed, task)] for s, seed in zip(settings, seeds, strict=True)]
    chunks = pack(members, task, steps, device, split=split)
    results: dict[int, Scored] = {}
    planner = Planner(task, device)
    for number, chunk in enumerate(chunks):
        start = time.perf_counter()
        together = [members[index][0] for index in chunk]
        cut = planner.forecast(together, steps, times=len(chunks)).cut

        def train(
            cut: Cut, together: Sequence[Member] = together, done: int = number * steps
        ) -> list[tuple[int, dict[str, float], int | None]]:
            training = TiledTraining(task, together, steps, device, cut, helpers=planner.helpers)
            for until in sorted({max(1, steps * part // 20) for part in range(1, 21)}):
                training.advance(until)
                if report is not None:
                    report(done + until, len(chunks) * steps)
            scores = training.score(split)
            return list(zip(training.rows, scores, training.first_bad_steps(), strict=True))

        found = with_helpers(cut, train)
        seconds = (time.perf_counter() - start) / len(chunk)
        for row, metrics, bad in found:
            error = divergence(bad, metrics, steps)
            results[chunk[row]] = Scored(None if error else metrics, error, seconds)
    return [results[index] for index in range(len(members))]
