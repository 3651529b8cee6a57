"""A particle that diverges fails alone, and says when; its neighbours do not feel it."""

from dataclasses import replace
from math import inf, isfinite, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator, train_swarm
from pso_attn.evaluate.chunk import ChunkResult, train_chunk
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.rungs import scored_steps
from pso_attn.evaluate.tiles import TiledTraining
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import MODEL_KNOBS
from pso_attn.space import read_space
from pso_attn.tasks import Task, make_task
from pso_attn.types import Budget, Candidate, Generation, History, Objective, Outcome, State

STEPS = 16
CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
BUDGET = Budget(steps=STEPS, rungs=(1.0,))
OUTER = {"layers": 1, "d_model": 8, "feedforward_ratio": 2, "batch_size": 8, "heads": 2}
OWN: list[dict[str, Any]] = [
    {"dropout": 0.1},
    {"attention_dropout": 0.2},
    {"kv_heads": 1, "lr": 1e-2},
    {"mechanism": "linear"},
    {"head_dim": 6},
]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    return [read_member({**OUTER, **own}, 3 + row, task) for row, own in enumerate(OWN)]


@pytest.mark.parametrize("poison", [nan, inf, -inf])
@pytest.mark.parametrize("victim", range(len(OWN)))
def test_a_poisoned_particle_leaves_its_neighbours_bitwise_unchanged(
    task: Task, members: list[Member], victim: int, poison: float
) -> None:
    healthy = SwarmTraining(task, members, 6, CPU)
    poisoned = SwarmTraining(task, members, 6, CPU)
    for training in (healthy, poisoned):
        training.advance(2)
    position = poisoned.rows.index(victim)
    poisoned.swarm.storage.weights[position] = poison
    for training in (healthy, poisoned):
        training.advance(6)
    others = [p for p in range(len(members)) if p != position]
    for one, other in (
        (poisoned.swarm.storage.weights, healthy.swarm.storage.weights),
        (poisoned.optimiser.first, healthy.optimiser.first),
        (poisoned.optimiser.second, healthy.optimiser.second),
    ):
        assert torch.equal(one[others], other[others])
    scores, truth = poisoned.score(), healthy.score()
    assert [scores[p] for p in others] == [truth[p] for p in others]
    assert not isfinite(scores[position]["loss"])
    assert [poisoned.first_bad_steps()[p] for p in others] == [None] * len(others)
    assert poisoned.first_bad_steps()[position] == 3


def test_a_diverging_candidate_fails_alone_and_names_the_step(
    task: Task, members: list[Member]
) -> None:
    wild = replace(members[2], recipe=replace(members[2].recipe, lr=1e30))
    tame = chunk(task, members)
    for place in (0, 2, 4):
        candidates = [wild if row == place else member for row, member in enumerate(members)]
        found = chunk(task, candidates)
        failed = found[place]
        assert failed.state is State.FAIL
        assert failed.error is not None
        step = int(failed.error.split("step ")[1].split()[0])
        assert 1 < step <= scored_steps(BUDGET)[0] + 1
        assert "not a finite number" in failed.error
        assert not failed.weights
        for row, (one, other) in enumerate(zip(found, tame, strict=True)):
            if row not in (place, 2):  # the wild one has other settings than whom it replaced
                assert one.state is State.COMPLETE
                assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], abs=5e-6)


def test_neighbours_of_a_diverging_candidate_are_bitwise_those_of_a_tame_one(
    task: Task, members: list[Member]
) -> None:
    """Same shapes, same chunk: the learning rate of one is all that differs."""
    wild = [*members[:2], replace(members[2], recipe=replace(members[2].recipe, lr=1e30))]
    found, tame = chunk(task, [*wild, *members[3:]]), chunk(task, members)
    assert found[2].state is State.FAIL
    for row in (0, 1, 3, 4):
        assert found[row].curve == tame[row].curve
        assert found[row].metrics == tame[row].metrics
        for name, value in tame[row].weights.items():
            assert torch.equal(found[row].weights[name], value)


def test_a_candidate_fails_when_one_of_its_seeds_diverges(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = members[0], replace(members[0], recipe=replace(members[0].recipe, lr=1e30))
    for seeds in ([first, second], [second, first]):
        failed, fine = train(task, [seeds, [members[1]]])
        assert failed.state is State.FAIL
        assert failed.error is not None
        assert fine.state is State.COMPLETE


def test_a_chunk_in_which_everybody_diverges_ends_early(task: Task, members: list[Member]) -> None:
    wild = [replace(member, recipe=replace(member.recipe, lr=1e30)) for member in members]
    steps: list[int] = []
    found = train_chunk(
        task,
        [[member] for member in wild],
        Budget(steps=100, rungs=(1.0,)),
        LOSS,
        History((LOSS,)),
        CPU,
        lambda step, _: steps.append(step),
    )
    assert {result.state for result in found} == {State.FAIL}
    assert steps[-1] < 100


def test_a_failed_candidate_keeps_what_it_showed_before(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, hit = TiledTraining.advance, scored_steps(BUDGET)[2]

    def poisoned(training: TiledTraining, until: int, on_step: Any = None) -> None:
        if until > hit:
            ((_, tile),) = training._tiles
            tile.swarm.storage.weights[training.rows.index(1)] = nan
        advance(training, until, on_step)

    monkeypatch.setattr(TiledTraining, "advance", poisoned)
    failed = chunk(task, members)[1]
    assert failed.state is State.FAIL
    assert list(failed.curve) == list(scored_steps(BUDGET)[:3])
    assert failed.step == hit
    assert failed.error is not None
    assert f"step {hit + 1} " in failed.error


def test_confirming_reports_a_divergence_and_scores_the_others(task: Task) -> None:
    settings = [{**OUTER}, {**OUTER, "lr": 1e30}, {**OUTER, "dropout": 0.2}]
    fine, failed, other = train_swarm(task, settings, [1, 2, 3], STEPS, CPU)
    assert failed.metrics is None
    assert failed.error is not None
    assert "diverged" in failed.error
    for result in (fine, other):
        assert result.error is None
        assert result.metrics is not None
        assert all(isfinite(value) for value in result.metrics.values())


class Strict:
    """The digits, scored by what takes no NaN, as metrics of scikit-learn do not."""

    def __init__(self) -> None:
        self._digits = make_task("digits")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._digits, name)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if not logits.isfinite().all():
            raise ValueError("Input contains NaN.")
        return self._digits.score(logits, targets)


def test_a_task_of_ones_own_that_takes_no_nan_fails_the_diverging_particle_alone() -> None:
    settings = [{**OUTER, **own} for own in ({}, {"lr": 1e30}, {"dropout": 0.2})]
    candidates = tuple(
        Candidate(row, row, np.zeros(1), {}, one, (row,)) for row, one in enumerate(settings)
    )
    space = read_space({"lr": {}}, OUTER, {**MODEL_KNOBS, **TRAINING_KNOBS})
    evaluator = SwarmEvaluator(space, Strict(), (LOSS,), BUDGET, 0, CPU)
    events = evaluator.evaluate(
        Generation(0, candidates, ((0, 1, 2),)), History((LOSS,)), lambda: False
    )
    found = {event.trial: event for event in events if isinstance(event, Outcome)}
    assert [found[row].state is State.COMPLETE for row in range(3)] == [True, False, True]
    said = "task digits raised ValueError: Input contains NaN. (test_swarm_training_failures.py, "
    assert str(found[1].error).startswith(said)


def chunk(task: Task, members: list[Member]) -> list[ChunkResult]:
    """Return each member's result, trained together at full length."""
    return train(task, [[member] for member in members])


def train(task: Task, candidates: list[list[Member]]) -> list[ChunkResult]:
    """Return each candidate's result, trained together at full length."""
    return train_chunk(task, candidates, BUDGET, LOSS, {}, CPU, lambda *_: None)
