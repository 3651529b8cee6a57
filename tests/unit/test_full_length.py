"""Trainings at full length where several workers share a machine's memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from pso_attn.evaluate import read_member
from pso_attn.evaluate.executors import LocalExecutor
from pso_attn.evaluate.full_length import FullLengthTrainer, score_apart
from pso_attn.evaluate.jobs import Answer, Job, Said
from pso_attn.evaluate.room import chunk_bytes
from pso_attn.evaluate.swarm_trainer import SwarmTrainer
from pso_attn.tasks import Task, make_task
from pso_attn.types import Budget, Objective, Settings

CPU = torch.device("cpu")
STEPS, WORKERS = 2, 2
NARROW, WIDE = ({"layers": 1, "d_model": width, "heads": 2} for width in (8, 16))
BUDGET = Budget(particles=2, batch=2, generations=1, steps=STEPS, rungs=(1.0,))


class Shared(LocalExecutor):
    """Trains here as workers would who share the memory; remembers what each chunk was."""

    def __init__(self, trainer: FullLengthTrainer, limit_bytes: int) -> None:
        super().__init__(trainer, CPU, WORKERS)
        self._limit_bytes = limit_bytes
        self.chunks = list[list[Settings]]()

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    def run(
        self, take: Callable[[], Job | None], hear: Callable[[Job, Said], None]
    ) -> Iterator[tuple[Job, Answer]]:
        for job, answer in super().run(take, hear):
            self.chunks.append([candidate.settings for candidate in job.candidates])
            yield job, answer


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


def needed(task: Task, settings: Settings, count: int) -> int:
    members = [read_member(settings, seed, task) for seed in range(count)]
    return chunk_bytes(members, task.info, STEPS, len(task.validation))


def scored(
    task: Task, settings: list[dict[str, Any]], limit_bytes: int
) -> tuple[Shared, list[float], list[tuple[int, int]]]:
    """Return who trained, the losses, and what was told of how far all are."""
    trainer = FullLengthTrainer(
        SwarmTrainer(task, Objective("loss", "minimize"), BUDGET, CPU), "test"
    )
    executor, told = Shared(trainer, limit_bytes), list[tuple[int, int]]()
    seeds = list(range(len(settings)))
    found = score_apart(trainer, executor, settings, seeds, lambda *far: told.append(far))
    losses = [one.metrics["loss"] for one in found if one.metrics is not None]
    return executor, losses, told


def test_no_worker_trains_more_at_once_than_its_share_of_memory(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results keep their order, and progress ends where it should."""
    monkeypatch.setattr("pso_attn.evaluate.packing.probed_bytes", lambda *_: 0)
    settings = [NARROW, WIDE] * 4
    roomy, expected, _ = scored(task, settings, 2**40)
    assert [len(chunk) for chunk in roomy.chunks] == [4, 4]
    assert len(expected) == len(set(expected)) == 8
    short, losses, told = scored(task, settings, needed(task, WIDE, 1))
    assert losses == pytest.approx(expected, abs=5e-6)
    for chunk in short.chunks:
        for own, count in Counter(one["d_model"] for one in chunk).items():
            assert (
                count == 1 or needed(task, {**NARROW, "d_model": own}, count) <= short.limit_bytes
            )
    assert told[-1] == (STEPS * len(short.chunks),) * 2
    assert len(short.chunks) > WORKERS
