"""Trainings at full length where several workers share a machine's memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pso_attn.evaluate import ModuleTrainer, OwnFactory, read_member, train_swarm
from pso_attn.evaluate.executors import LocalExecutor
from pso_attn.evaluate.full_length import FullLengthTrainer, score_apart
from pso_attn.evaluate.jobs import Answer, Job, Said
from pso_attn.evaluate.room import chunk_bytes
from pso_attn.evaluate.swarm_trainer import SwarmTrainer
from pso_attn.tasks import Split, Task, make_task
from pso_attn.types import Budget, Objective, Settings

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
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
    return chunk_bytes(members, task.info, STEPS, len(task.test))


def scored(
    task: Task, settings: list[dict[str, Any]], limit_bytes: int
) -> tuple[Shared, list[float], list[tuple[int, int]]]:
    """Return who trained, the losses, and what was told of how far all are."""
    trainer = FullLengthTrainer(SwarmTrainer(task, LOSS, BUDGET, CPU), "test")
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


@pytest.mark.parametrize(("longer", "chunks"), [("validation", 1), ("test", 3)])
def test_a_chunk_has_room_for_answers_to_the_split_that_it_is_scored_on(
    task: Task, monkeypatch: pytest.MonkeyPatch, longer: str, chunks: int
) -> None:
    limit_bytes = needed(task, NARROW, 3)
    monkeypatch.setattr("pso_attn.evaluate.packing.probed_bytes", lambda *_: 0)
    monkeypatch.setattr("pso_attn.evaluate.packing.memory_budget_bytes", lambda _: limit_bytes)
    split, totals = getattr(task, longer), list[int]()
    many = Split(split.inputs.repeat(50, 1, 1), split.targets.repeat(50))
    task = replace(task, **{longer: many})
    train_swarm(
        *(task, [NARROW] * 3, [0, 1, 2], STEPS, CPU, "test"),
        lambda _, total: totals.append(total),
    )
    assert totals[-1] == chunks * STEPS


def net(settings: Any, info: Any) -> nn.Module:
    width = settings["width"]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, info.outputs))


class Worn(nn.Sequential):
    steps = 0

    def forward(self, x: Tensor) -> Any:
        self.steps += self.training
        if self.steps > 1:
            raise RuntimeError("worn out")
        return super().forward(x)


def modules(task: Task, made: Callable[..., Any]) -> FullLengthTrainer:
    return FullLengthTrainer(
        ModuleTrainer(OwnFactory(made, "mine:f", task), LOSS, BUDGET, CPU), "test"
    )


def test_modules_of_ones_own_that_train_at_once_keep_to_a_workers_memory(task: Task) -> None:
    trainer, settings = modules(task, net), [{"width": 8}] * 6
    executor = Shared(trainer, 2 * int(trainer.costs(settings[0])["memory_bytes"]))
    found = score_apart(trainer, executor, settings, list(range(6)))
    assert [len(chunk) for chunk in executor.chunks] == [2, 2, 2]
    assert all(one.metrics for one in found)


def test_a_module_that_raises_at_full_length_fails_alone_and_progress_ends_once(
    task: Task,
) -> None:
    trainer = modules(task, lambda s, i: Worn(*net(s, i)) if s["width"] == 16 else net(s, i))
    settings, told = [{"width": width} for width in (8, 16, 8)], list[tuple[int, int]]()
    local = LocalExecutor(trainer, CPU)
    found = score_apart(trainer, local, settings, [0, 1, 2], lambda *far: told.append(far))
    assert [one.metrics is None for one in found] == [False, True, False]
    assert str(found[1].error).startswith("mine:f's module raised RuntimeError: worn out (test_")
    assert [far for far in told if far[0] == far[1]] == [(3 * STEPS, 3 * STEPS)]
