"""When some leave, those who stay train on as if nobody had left."""

import pytest
import torch
from torch import Tensor

from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.tasks import Task, make_task

STEPS, LEFT_AT = 20, 8
CPU = torch.device("cpu")
OUTER = {"layers": 2, "d_model": 8, "feedforward_ratio": 2, "batch_size": 8}
OWN = [
    {"heads": 2, "attention_dropout": 0.2, "schedule": "cosine", "warmup": 0.3},
    {"heads": 4, "head_dim": 8, "lr": 1e-2, "dropout": 0.1, "label_smoothing": 0.1},  # the widest
    {"mechanism": "linear", "heads": 2, "schedule": "linear"},
    {"mechanism": ["softmax", "low_rank"], "heads": 2, "rank": 6, "clip_norm": 0.1, "beta1": 0.8},
    {"mechanism": ["low_rank", "softmax"], "heads": [4, 1], "head_dim": 3, "label_smoothing": 0.3},
    {"heads": 2, "kv_heads": 1, "temperature": 0.7, "weight_decay": 0.3, "beta2": 0.9},
]
LSTMS = [
    {"heads": 2, "dropout": 0.2, "warmup": 0.3},
    {"score": "self_attentive", "hops": 4, "hop_penalty": 0.4, "lr": 1e-2},  # the widest
    {"score": "dot", "sentinel": True, "schedule": "linear"},
    {"score": "general", "local": "predictive", "window_tokens": 3, "clip_norm": 0.1},
    {"score": "self_attentive", "hops": 4, "attention_dim": 3, "dropout": 0.1},
    {"query": "learned", "last_state": True, "weight_decay": 0.3, "beta2": 0.9},
]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(params=["own seeds", "one seed", "lstms"], scope="module")
def members(request: pytest.FixtureRequest, task: Task) -> list[Member]:
    if request.param == "lstms":
        outer = {"family": "lstm", "hidden": 4, "bidirectional": True, "batch_size": 8}
        return [read_member({**outer, **own}, 5 + row, task) for row, own in enumerate(LSTMS)]
    own = request.param == "own seeds"
    return [
        read_member({**OUTER, **settings}, 5 + row * own, task) for row, settings in enumerate(OWN)
    ]


@pytest.fixture(scope="module")
def whole(task: Task, members: list[Member]) -> dict[int, dict[str, Tensor]]:
    """Everybody stays."""
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    training.advance(STEPS)
    return parameters(training)


@pytest.mark.parametrize(
    "staying",
    [(0, 2, 3, 4, 5), (0, 2, 5), (1,), (2,), (3, 4), (1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5)],
    ids=str,
)
def test_those_who_stay_train_on_as_if_nobody_had_left(
    task: Task,
    members: list[Member],
    whole: dict[int, dict[str, Tensor]],
    staying: tuple[int, ...],
) -> None:
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    training.advance(LEFT_AT)
    keep(training, staying)
    assert sorted(training.rows) == list(staying)
    training.advance(STEPS)
    assert_same(parameters(training), whole)


def test_leaving_twice_is_as_good_as_leaving_once(
    task: Task, members: list[Member], whole: dict[int, dict[str, Tensor]]
) -> None:
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    for step, staying in ((3, (0, 2, 3, 5)), (9, (2, 3, 5)), (10, (3, 5)), (15, (5,))):
        training.advance(step)
        keep(training, staying)
    training.advance(STEPS)
    assert_same(parameters(training), whole)


def test_leaving_moves_no_weight_and_no_score(task: Task, members: list[Member]) -> None:
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    training.advance(LEFT_AT)
    before = parameters(training)
    scores = dict(zip(training.rows, training.score(), strict=True))
    keep(training, (0, 2, 4))
    for row, values in parameters(training).items():
        assert all(torch.equal(value, before[row][name]) for name, value in values.items())
    for row, score in zip(training.rows, training.score(), strict=True):
        assert score["loss"] == pytest.approx(scores[row]["loss"], abs=1e-12)


def test_what_diverged_before_others_left_is_remembered(task: Task, members: list[Member]) -> None:
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    training.advance(2)
    training.swarm.storage.weights[training.rows.index(4)] = float("nan")
    training.advance(4)
    keep(training, (2, 4, 5))
    bad = dict(zip(training.rows, training.first_bad_steps(), strict=True))
    assert bad == {2: None, 4: 3, 5: None}


def keep(training: SwarmTraining, staying: tuple[int, ...]) -> None:
    """Compact the batch to these members."""
    training.keep([place for place, row in enumerate(training.rows) if row in staying])


def parameters(training: SwarmTraining) -> dict[int, dict[str, Tensor]]:
    """Return the stand-alone parameters of every member still in training."""
    return {
        row: training.swarm.storage.true_parameters(place)
        for place, row in enumerate(training.rows)
    }


def assert_same(found: dict[int, dict[str, Tensor]], whole: dict[int, dict[str, Tensor]]) -> None:
    """Assert that the members found ended where they end when everybody stays."""
    for row, values in found.items():
        assert values.keys() == whole[row].keys()
        for name, value in values.items():
            torch.testing.assert_close(value, whole[row][name], rtol=0, atol=1e-12)
