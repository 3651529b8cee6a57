"""A particle that diverges fails alone, and says when; its neighbours do not feel it."""

import re
from dataclasses import replace
from itertools import product
from math import inf, isfinite, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pso_attn.attention import MECHANISMS
from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator, train_swarm
from pso_attn.evaluate.chunk import ChunkResult, train_chunk
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.own_code import OwnCodeError, task_loss, task_score
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
LSTM = {"family": "lstm", "hidden": 4, "bidirectional": True, "batch_size": 8}
READ_OUTS: list[dict[str, Any]] = [
    {"score": "additive", "heads": 2},
    {"score": "dot", "sentinel": True},
    {"score": "general", "local": "predictive", "window_tokens": 2},
    {"score": "concat", "local": "monotonic", "window_tokens": 2, "query": "learned"},
    {"score": "self_attentive", "hops": 2, "hop_penalty": 0.3},
]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    return [read_member({**OUTER, **own}, 3 + row, task) for row, own in enumerate(OWN)]


@pytest.fixture(params=["both ways", "looking back", "batched", "one_by_one"], scope="module")
def pairs(
    request: pytest.FixtureRequest, task: Task, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Task, list[Member]]:
    """Two of each mechanism, or of each way to read an LSTM: rows 2k and 2k + 1."""
    if request.param in ("batched", "one_by_one"):
        kinds = [{**LSTM, **own, "recurrence": request.param} for own in READ_OUTS]
    else:
        other = {"both ways": "retention", "looking back": "low_rank"}[request.param]
        kinds = [{**OUTER, "mechanism": name} for name in MECHANISMS if name != other]
    if request.param == "looking back":
        path = tmp_path_factory.mktemp("text") / "corpus.txt"
        path.write_text("to be or not to be, that is the question. " * 30, encoding="utf-8")
        task = make_task("text", str(path), columns={"tokens": 12})
    twice = [{**kind, **own} for kind in kinds for own in ({"dropout": 0.1}, {"lr": 1e-2})]
    return task, [read_member(one, 3 + row, task) for row, one in enumerate(twice)]


@pytest.mark.parametrize("poison", [nan, inf, -inf])
@pytest.mark.parametrize("victim", range(len(OWN)))
def test_a_poisoned_particle_leaves_its_neighbours_bitwise_unchanged(
    task: Task, members: list[Member], victim: int, poison: float
) -> None:
    healthy, poisoned = begun(task, members), begun(task, members)
    position = poisoned.rows.index(victim)
    poisoned.swarm.storage.weights[position] = poison
    for training in (healthy, poisoned):
        training.advance(6)
    assert poisoned._losses[2, position].isnan()
    assert_failing_alone(poisoned, [position], healthy)


def test_of_two_that_share_a_kernel_one_is_poisoned_and_the_other_bitwise_unchanged(
    pairs: tuple[Task, list[Member]],
) -> None:
    groups = [member.model.group for member in pairs[1]]
    assert groups[::2] == groups[1::2]
    healthy = begun(*pairs)
    healthy.advance(4)
    for poison, which in product((nan, inf, -inf), (0, 1)):
        poisoned = begun(*pairs)
        hit = [place for place, row in enumerate(poisoned.rows) if row % 2 == which]
        poisoned.swarm.storage.weights[hit] = poison
        poisoned.advance(4)
        assert_failing_alone(poisoned, hit, healthy)


def test_a_particle_whose_loss_is_infinite_fails_alone(task: Task, members: list[Member]) -> None:
    """Its weights and moments are numbers all the same."""
    healthy, endless = begun(task, members), begun(task, members)
    position = endless.rows.index(0)
    with torch.no_grad():
        endless.swarm.storage.whole("head_bias")[position] = torch.tensor([3e38, -3e38] * 5)
    for training in (healthy, endless):
        training.advance(3)
    assert endless._losses[2, position] == inf
    assert all(tensor.isfinite().all() for tensor in endless.state.values())
    assert_failing_alone(endless, [position], healthy)


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


def test_who_diverged_trains_on_no_longer_than_to_the_next_scoring(
    task: Task, members: list[Member]
) -> None:
    """Rungs or none, so that no time is spent on numbers that are none."""
    wild = [replace(members[0], recipe=replace(members[0].recipe, lr=1e30)), *members[1:]]
    budget, told = Budget(steps=32, rungs=(1.0,)), list[tuple[int, int]]()
    train_chunk(
        task,
        [[member] for member in wild],
        budget,
        LOSS,
        History((LOSS,)),
        CPU,
        lambda step, training, *_: told.append((step, training)),
    )
    first = scored_steps(budget)[0]
    assert {count for step, count in told if step < first} == {len(wild)}
    assert {count for step, count in told if step > first} == {len(wild) - 1}


def test_a_failed_candidate_keeps_what_it_showed_before(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, hit = TiledTraining.advance, scored_steps(BUDGET)[2]

    def poisoned(training: TiledTraining, until: int, on_step: Any = None) -> None:
        if until > hit and 1 in training.rows:
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


def test_a_score_that_is_no_number_after_losses_that_were_is_named_by_its_step(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = TiledTraining.advance

    def poisoned(training: TiledTraining, until: int, on_step: Any = None) -> None:
        advance(training, until, on_step)
        if until == STEPS:
            ((_, tile),) = training._tiles
            tile.swarm.storage.weights[training.rows.index(1)] = nan

    monkeypatch.setattr(TiledTraining, "advance", poisoned)
    found = chunk(task, members)
    assert [result.state is State.FAIL for result in found] == [row == 1 for row in range(5)]
    assert found[1].error == f"diverged: the score at step {STEPS} is not a finite number"
    assert list(found[1].curve) == list(scored_steps(BUDGET)[:-1])


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
    found = evaluated(Strict(), settings, ((0, 1, 2),))
    assert [one.state is State.COMPLETE for one in found] == [True, False, True]
    said = "task digits raised ValueError: Input contains NaN. (test_swarm_training_failures.py, "
    assert str(found[1].error).startswith(said)


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("loss", lambda n: torch.tensor(0.5), "task digits gives the shape () as loss; expected"),
        (
            "loss",
            lambda n: 0.5,
            "task digits gives a float as loss; expected a tensor of shape (2,),",
        ),
        (
            "score",
            lambda n: {"loss": torch.zeros(n), "acuracy": torch.zeros(n)},
            'task digits gives no "accuracy" as a score, though its metrics name it; did you mean',
        ),
        (
            "score",
            lambda n: {"loss": torch.zeros(n), "accuracy": 0.5},
            'task digits gives a float as score "accuracy"; expected a tensor of shape (2,), one',
        ),
    ],
)
def test_an_answer_of_a_task_of_ones_own_that_is_not_one_for_each_is_named(
    method: str, given: Any, told: str
) -> None:
    """A single loss would be shared out: each would get half of its gradient."""
    task = Strict()
    setattr(task, method, lambda logits, targets: given(len(logits)))
    ask = {"loss": task_loss, "score": task_score}[method]
    with pytest.raises(OwnCodeError, match=re.escape(told)):
        ask(task, torch.zeros(2, 3, 10), torch.zeros(1, 3, dtype=torch.int64))
    found = evaluated(task, [OUTER, {**OUTER, "dropout": 0.2}], ((0, 1),))
    assert all(told.partition(";")[0] in str(one.error) for one in found)


def test_an_lstm_that_no_machine_holds_fails_alone_and_says_what_it_needed(task: Task) -> None:
    sizes = [{**LSTM, "hidden": hidden} for hidden in (4, 10**6)]
    fine, failed = evaluated(task, sizes, ((0,), (1,)))
    assert fine.state is State.COMPLETE
    assert failed.error is not None
    said = r"about \d{8,} MiB are needed on cpu \(the machine has \d+ MiB\)$"
    assert re.match(f"one particle alone does not fit into memory: {said}", failed.error)


def begun(task: Task, members: list[Member]) -> SwarmTraining:
    """Return the members after two steps of their training."""
    training = SwarmTraining(task, members, 6, CPU)
    training.advance(2)
    return training


def assert_failing_alone(found: SwarmTraining, hit: list[int], healthy: SwarmTraining) -> None:
    """Assert that who was hit has failed from the third step on, and all others felt nothing."""
    positions = range(len(healthy.rows))
    others = [place for place in positions if place not in hit]
    for name, tensor in healthy.state.items():
        assert torch.equal(found.state[name][others], tensor[others]), name
    scores, truth = found.score(), healthy.score()
    assert [scores[place] for place in others] == [truth[place] for place in others]
    assert not any(isfinite(scores[place]["loss"]) for place in hit)
    assert found.first_bad_steps() == [3 if place in hit else None for place in positions]


def evaluated(
    task: Any, settings: list[dict[str, Any]], chunks: tuple[tuple[int, ...], ...]
) -> list[Outcome]:
    """Return what becomes of candidates of these settings, in their order."""
    candidates = tuple(
        Candidate(row, row, np.zeros(1), {}, one, (row,)) for row, one in enumerate(settings)
    )
    space = read_space({"lr": {}}, OUTER, {**MODEL_KNOBS, **TRAINING_KNOBS})
    evaluator = SwarmEvaluator(space, task, (LOSS,), BUDGET, 0, CPU)
    planned = Generation(0, candidates, chunks)
    events = evaluator.evaluate(planned, History((LOSS,)), lambda: False)
    return sorted((e for e in events if isinstance(e, Outcome)), key=lambda one: one.trial)


def chunk(task: Task, members: list[Member]) -> list[ChunkResult]:
    """Return each member's result, trained together at full length."""
    return train(task, [[member] for member in members])


def train(task: Task, candidates: list[list[Member]]) -> list[ChunkResult]:
    """Return each candidate's result, trained together at full length."""
    return train_chunk(task, candidates, BUDGET, LOSS, {}, CPU, lambda *_: None)
