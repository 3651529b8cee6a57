"""Who leaves at a rung, what becomes of them, and what that changes for those who stay."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pso_attn.evaluate import SwarmEvaluator
from pso_attn.evaluate.chunk import ChunkResult, train_chunk
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.rungs import Earlier, leavers, losses_at, rung_steps, scored_steps
from pso_attn.evaluate.tiles import TiledTraining
from pso_attn.space import read_space
from pso_attn.tasks import Task, make_task
from pso_attn.types import (
    Budget,
    Candidate,
    Generation,
    History,
    Objective,
    Outcome,
    State,
    Trial,
)

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
ACCURACY = Objective("accuracy", "maximize")
BUDGET = Budget(steps=20, rungs=(0.5, 1.0))
NONE = Earlier()
OUTER = {"layers": 1, "d_model": 8, "feedforward_ratio": 2, "batch_size": 8, "heads": 2}


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    """Six trainings; the slower the learning rate, the worse. The widest is among the slow."""
    rates = [1e-2, 1e-7, 3e-2, 8e-3, 1e-6, 2e-2]
    extras: list[dict[str, Any]] = [{}, {"head_dim": 6}, {}, {"mechanism": "linear"}, {}, {}]
    return [
        read_member({**OUTER, **extra, "lr": lr, "dropout": 0.1}, 7, task)
        for lr, extra in zip(rates, extras, strict=True)
    ]


@pytest.mark.parametrize(
    ("losses", "leaving"),
    [
        ([1.0, 2.0, 3.0], [2]),
        ([3.0, 1.0, 2.0], [0]),
        ([1.0, 2.0, 3.0, 4.0], [3]),
        ([5.0, 1.0, 2.0, 3.0, 4.0], [0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [4, 5]),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [0, 1, 2]),
    ],
)
def test_the_worst_third_leaves(losses: list[float], leaving: list[int]) -> None:
    assert [row for row, leaves in enumerate(leavers(losses, NONE)) if leaves] == leaving


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0]])
def test_nobody_leaves_a_pool_of_fewer_than_three(losses: list[float]) -> None:
    assert not any(leavers(losses, NONE))


def test_the_past_fills_the_pool() -> None:
    assert leavers([2.0], earlier([0.0, 1.0], 1)) == [True]
    assert leavers([2.0], earlier([0.0], 1)) == [False]
    assert leavers([2.0, 2.5], earlier([3.0, 3.5, 4.0, 5.0], 2)) == [False, False]
    assert leavers([6.0, 7.0], earlier([1.0] * 4, 2)) == [True, True]


def test_a_long_past_neither_saves_nor_condemns_by_its_length() -> None:
    past = [float(loss) for loss in range(300)]
    assert leavers([198.0, 201.0], earlier(past, 2)) == [False, True]


@given(
    losses=st.lists(st.integers(0, 9), max_size=6),
    past=st.lists(st.integers(0, 9), max_size=60),
    more=st.integers(0, 3),
)
@example(losses=[9], past=[0, 0, 0], more=0)
def test_the_few_losses_that_a_chunk_is_sent_decide_as_all_of_them_would(
    losses: list[float], past: list[float], more: int
) -> None:
    """Some of the chunk may have left before, or have failed."""
    pool = [*losses, *past]
    expected = [
        len(pool) >= 3 and 3 * sum(other < loss for other in pool) >= 2 * len(pool)
        for loss in losses
    ]
    sent = earlier(past, len(losses) + more)
    assert leavers(losses, sent) == expected
    assert len(sent.near) <= len(losses) + more + 2


def test_a_loss_that_is_no_number_counts_as_the_worst() -> None:
    history = past([{5: float("nan")}, {5: 0.4}], LOSS)
    assert losses_at(history, 5) == [0.4, float("inf")]


def test_ties_stay() -> None:
    assert not any(leavers([1.0] * 9, NONE))
    assert not any(leavers([1.0, 2.0, 2.0], NONE))
    assert leavers([1.0, 1.0, 1.0, 1.0, 2.0, 2.0], NONE) == [False] * 4 + [True] * 2
    assert not any(leavers([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], NONE))


def test_at_least_the_best_of_a_chunk_stays_when_there_is_no_past() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 12):
        losses = rng.integers(0, 4, size).astype(float).tolist()
        gone = leavers(losses, NONE)
        assert not gone[int(np.argmin(losses))]
        assert 3 * sum(gone) <= size


def test_rungs_are_steps_below_the_end_without_repetition() -> None:
    assert rung_steps(Budget(steps=300, rungs=(0.25, 0.5, 1.0))) == (75, 150)
    assert rung_steps(Budget(steps=300, rungs=(1.0,))) == ()
    assert rung_steps(Budget(steps=2, rungs=(0.1, 0.2, 0.9, 1.0))) == (1,)


def test_every_rung_and_the_end_are_scored() -> None:
    for steps in (1, 2, 7, 20, 300):
        budget = Budget(steps=steps, rungs=(0.13, 0.25, 0.7, 1.0))
        scored = scored_steps(budget)
        assert set(rung_steps(budget)) <= set(scored)
        assert scored[-1] == steps
        assert list(scored) == sorted(set(scored))
        assert scored[0] >= 1


def test_earlier_losses_are_those_stored_at_that_very_step_as_losses() -> None:
    history = past([{5: 0.2, 10: 0.9}, {5: 0.4}, {}, {10: 0.1}], ACCURACY)
    assert losses_at(history, 10) == [-0.9, -0.1]
    assert losses_at(history, 5) == [-0.4, -0.2]
    assert losses_at(history, 7) == []


@pytest.mark.parametrize("objective", [LOSS, ACCURACY], ids=lambda o: o.name)
def test_a_chunk_loses_its_worst_third_by_the_objective_in_its_own_direction(
    task: Task, members: list[Member], objective: Objective
) -> None:
    found = chunk(task, members, objective=objective)
    at_rung = [objective.loss(result.curve[10]) for result in found]
    expected = leavers(at_rung, NONE)
    assert 0 < sum(expected) <= 2
    assert [result.state is State.PRUNED for result in found] == expected
    worst = max(range(6), key=at_rung.__getitem__)
    assert found[worst].state is State.PRUNED


def test_a_leaver_stops_at_its_rung_and_keeps_its_last_values(
    task: Task, members: list[Member]
) -> None:
    for result in chunk(task, members):
        if result.state is State.PRUNED:
            assert result.step == 10
            assert max(result.curve) == 10
            assert result.metrics["loss"] == result.curve[10]
            assert not result.weights
        else:
            assert result.step == 20
            assert result.metrics["loss"] == result.curve[20]
            assert result.weights
        assert result.error is None


def test_those_who_stay_end_where_they_would_have_ended_without_rungs(
    task: Task, members: list[Member]
) -> None:
    """Their schedule is that of the full budget; float32, so to what it promises."""
    with_rungs, without = (
        chunk(task, members),
        chunk(task, members, Budget(steps=20, rungs=(1.0,))),
    )
    stayed = [row for row, result in enumerate(with_rungs) if result.state is State.COMPLETE]
    assert 0 < len(stayed) < len(members)
    for row in stayed:
        assert with_rungs[row].curve[20] == pytest.approx(without[row].curve[20], abs=5e-6)
    for row, result in enumerate(with_rungs):
        assert result.curve[10] == without[row].curve[10]


def test_a_particle_alone_in_its_chunk_is_judged_by_the_past(
    task: Task, members: list[Member]
) -> None:
    better, worse = past([{10: 0.1}, {10: 0.2}], LOSS), past([{10: 9.0}, {10: 8.0}], LOSS)
    assert chunk(task, members[:1], history=better)[0].state is State.PRUNED
    assert chunk(task, members[:1], history=worse)[0].state is State.COMPLETE
    assert chunk(task, members[:1], history=past([{5: 0.1}] * 9, LOSS))[0].state is State.COMPLETE


def test_the_diverged_are_not_in_the_pool(task: Task, members: list[Member]) -> None:
    """Three left of six, the worst of them leaves; a failure is not a loss to be worse than."""
    wild = [
        replace(member, recipe=replace(member.recipe, lr=1e30)) if row >= 3 else member
        for row, member in enumerate(members)
    ]
    found = chunk(task, wild)
    assert [result.state for result in found[3:]] == [State.FAIL] * 3
    states = [result.state for result in found[:3]]
    assert states.count(State.PRUNED) == 1
    losses = [result.curve[10] for result in found[:3]]
    assert states[losses.index(max(losses))] is State.PRUNED


def test_all_seeds_of_a_leaver_leave(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[list[int]] = []
    keep = TiledTraining.keep

    def observed(training: TiledTraining, positions: Sequence[int]) -> None:
        keep(training, positions)
        kept.append(sorted(training.rows))

    monkeypatch.setattr(TiledTraining, "keep", observed)
    candidates = [[member, replace(member, seed=member.seed + 1)] for member in members[:4]]
    found = train_chunk(task, candidates, BUDGET, LOSS, {}, CPU, lambda *_: None)
    (left,) = (row for row, result in enumerate(found) if result.state is State.PRUNED)
    assert kept == [[row for row in range(8) if row // 2 != left]]


@pytest.mark.parametrize("objective", [LOSS, ACCURACY], ids=lambda o: o.name)
def test_the_outcome_of_a_leaver_says_how_far_it_came_and_what_it_reached(
    task: Task, objective: Objective
) -> None:
    space = read_space(
        search={"lr": {"low": 1e-6, "high": 3e-2, "log": True}},
        fixed=dict(OUTER),
        knobs=knobs(),
        constraints=[],
        starts=[],
        derive=None,
        where="space.toml",
    )
    evaluator = SwarmEvaluator(space, task, (objective,), BUDGET, 0, CPU)
    candidates = tuple(
        Candidate(
            trial=trial,
            particle=trial,
            position=space.encode({"lr": lr}),
            params={"lr": lr},
            settings={**OUTER, "lr": lr},
            seeds=(7,),
        )
        for trial, lr in enumerate([1e-2, 1e-6, 3e-2, 2e-2])
    )
    generation = Generation(0, candidates, ((0, 1, 2, 3),))
    outcomes = {
        event.trial: event
        for event in evaluator.evaluate(generation, History((objective,)), lambda: False)
        if isinstance(event, Outcome)
    }
    assert sorted(outcomes) == [0, 1, 2, 3]
    left = [outcome for outcome in outcomes.values() if outcome.state is State.PRUNED]
    assert len(left) == 1
    for outcome in outcomes.values():
        last = max(outcome.curve)
        assert outcome.values == (outcome.curve[last],)
        assert outcome.values == (outcome.metrics[objective.name],)
        assert outcome.error is None
        if outcome.state is State.PRUNED:
            assert outcome.fidelity == 0.5
            assert last == 10
        else:
            assert outcome.state is State.COMPLETE
            assert outcome.fidelity == 1.0
            assert last == 20


def knobs() -> dict[str, Any]:
    """Return every knob that a transformer and its training declare."""
    from pso_attn.evaluate import TRAINING_KNOBS
    from pso_attn.models import MODEL_KNOBS

    return {**MODEL_KNOBS, **TRAINING_KNOBS}


def chunk(
    task: Task,
    members: Sequence[Member],
    budget: Budget = BUDGET,
    objective: Objective = LOSS,
    history: History | None = None,
) -> list[ChunkResult]:
    """Return each member's result, one seed each."""
    known = History((objective,)) if history is None else history
    before = {rung: earlier(losses_at(known, rung), len(members)) for rung in rung_steps(budget)}
    candidates = [[member] for member in members]
    return train_chunk(task, candidates, budget, objective, before, CPU, lambda *_: None)


def earlier(losses: Sequence[float], most: int) -> Earlier:
    """Return what a chunk of at most so many particles is told of earlier losses."""
    return Earlier.of(sorted(losses), most)


def past(curves: Sequence[dict[int, float]], objective: Objective) -> History:
    """Return a history of one generation whose trials have these curves."""
    trials = tuple(
        Trial(
            0,
            Candidate(number, number, np.zeros(1), {}, {}, (0,)),
            Outcome(number, State.COMPLETE, (0.0,), curve, {}, 1.0, 1.0),
        )
        for number, curve in enumerate(curves)
    )
    return History((objective,), (trials,))
