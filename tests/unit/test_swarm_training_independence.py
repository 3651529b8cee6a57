"""A training's result does not depend on who trains beside it, or in what order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from pso_attn.evaluate import train_swarm
from pso_attn.evaluate.chunk import ChunkResult, train_chunk
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.tasks import Task, make_task
from pso_attn.types import Budget, Objective, State

STEPS = 24
CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
BUDGET = Budget(steps=STEPS, rungs=(1.0,))
OUTER = {"layers": 1, "d_model": 8, "feedforward_ratio": 2, "batch_size": 8}
OWN: list[dict[str, Any]] = [
    {"heads": 2, "lr": 3e-3, "attention_dropout": 0.1},
    {"heads": 4, "head_dim": 6, "kv_heads": 2, "lr": 1e-2, "dropout": 0.2, "clip_norm": 0.1},
    {"heads": 2, "temperature": 0.6, "lr": 2e-2, "schedule": "linear"},
    {"mechanism": "linear", "heads": 2, "warmup": 0.2},
    {"mechanism": "low_rank", "heads": 2, "rank": 3, "attention_dropout": 0.2},
    {"heads": 1, "window_tokens": 2, "decay": 0.5, "schedule": "constant"},
]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    return [read_member({**OUTER, **own}, 11 + row, task) for row, own in enumerate(OWN)]


@pytest.fixture(scope="module")
def together(task: Task, members: list[Member]) -> list[ChunkResult]:
    """All members in one chunk."""
    return chunk(task, [[member] for member in members])


def test_the_same_chunk_twice_gives_the_same_floats(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    again = chunk(task, [[member] for member in members])
    for one, other in zip(together, again, strict=True):
        assert one.curve == other.curve
        assert one.metrics == other.metrics
        assert same_weights(one, other)


def test_a_loss_does_not_depend_on_how_the_members_are_chunked(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    for plan in ([[0], [1], [2], [3], [4], [5]], [[0, 1, 2], [3, 4, 5]], [[0, 5], [1, 4, 2, 3]]):
        for part in plan:
            for row, result in zip(
                part, chunk(task, [[members[row]] for row in part]), strict=True
            ):
                assert close(result, together[row])


def test_a_loss_does_not_depend_on_the_order_of_the_members(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]):
        found = chunk(task, [[members[row]] for row in order])
        for row, result in zip(order, found, strict=True):
            assert close(result, together[row])


def test_a_loss_does_not_depend_on_the_seeds_of_the_others(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    """Equal seeds share one batch of data, different ones have each its own."""
    equal = [[replace(member, seed=members[0].seed)] for member in members]
    assert close(chunk(task, equal)[0], together[0])


def test_twins_get_the_same_result(task: Task, members: list[Member]) -> None:
    twins = chunk(task, [[members[1]], [members[0]], [members[1]], [members[4]], [members[1]]])
    for twin in (twins[2], twins[4]):
        assert close(twin, twins[0])


def test_another_seed_gives_another_result(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    other = chunk(task, [[replace(members[0], seed=99)]])[0]
    assert abs(other.metrics["loss"] - together[0].metrics["loss"]) > 1e-4


def test_several_seeds_of_one_candidate_are_averaged(
    task: Task, members: list[Member], together: list[ChunkResult]
) -> None:
    seeds = [replace(members[0], seed=seed) for seed in (11, 12, 13)]
    (mean,) = chunk(task, [seeds])
    singles = [chunk(task, [[member]])[0] for member in seeds]
    for name in ("loss", "accuracy"):
        expected = sum(single.metrics[name] for single in singles) / 3
        assert mean.metrics[name] == pytest.approx(expected, abs=5e-6)
    for step, value in mean.curve.items():
        expected = sum(single.curve[step] for single in singles) / 3
        assert value == pytest.approx(expected, abs=5e-6)


def test_the_weights_of_several_seeds_are_those_of_the_first(
    task: Task, members: list[Member]
) -> None:
    first, second = members[0], replace(members[0], seed=44)
    for order in ([first, second], [second, first]):
        result = chunk(task, [[members[3]], order])[1]
        alone = chunk(task, [[order[0]]])[0]
        for name, value in result.weights.items():
            torch.testing.assert_close(value, alone.weights[name], rtol=0, atol=1e-3)


def test_confirming_trains_what_the_search_trained(
    task: Task, together: list[ChunkResult]
) -> None:
    """`train_swarm` takes settings in any order and any mixture of outer shapes."""
    settings = [{**OUTER, **own} for own in OWN]
    other = {**OUTER, "d_model": 16, "layers": 2, "heads": 2}
    mixed = [settings[4], other, *settings[:4], settings[5]]
    seeds = [15, 1, 11, 12, 13, 14, 16]
    scored = train_swarm(task, mixed, seeds, STEPS, CPU)
    rows = [4, None, 0, 1, 2, 3, 5]
    for row, result in zip(rows, scored, strict=True):
        assert result.error is None
        assert result.metrics is not None
        if row is not None:
            assert result.metrics["loss"] == pytest.approx(together[row].metrics["loss"], abs=5e-6)


def test_rows_tell_which_member_each_particle_is(task: Task, members: list[Member]) -> None:
    training = SwarmTraining(task, members, STEPS, CPU)
    assert sorted(training.rows) == list(range(len(members)))
    for position, row in enumerate(training.rows):
        assert training.swarm.settings[position] == members[row].model


def chunk(task: Task, candidates: Sequence[Sequence[Member]]) -> list[ChunkResult]:
    """Return the results of one chunk at full length."""
    return train_chunk(task, candidates, BUDGET, LOSS, {}, CPU, lambda *_: None)


def close(one: ChunkResult, other: ChunkResult) -> bool:
    """Tell whether two results agree to what float32 promises."""
    return (
        one.state is other.state is State.COMPLETE
        and one.curve.keys() == other.curve.keys()
        and all(abs(value - other.curve[step]) <= 5e-6 for step, value in one.curve.items())
        and abs(one.metrics["loss"] - other.metrics["loss"]) <= 5e-6
    )


def same_weights(one: ChunkResult, other: ChunkResult) -> bool:
    """Tell whether two results hold the same floats."""
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name]) for name, value in one.weights.items()
    )
