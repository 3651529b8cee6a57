"""The built-in spaces: a particle trains to the same floats by itself as among all of a swarm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pso_attn.assembly import assemble
from pso_attn.attention.alike import by_gemm
from pso_attn.attention.layer import FUSED_TOKENS
from pso_attn.config import read_configuration
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.tiles import Cut, TiledTraining
from pso_attn.tasks import Task, make_task
from pso_attn.types import History

CPU, STEPS = torch.device("cpu"), 4
SPACES = [
    ("digits", ()),
    ("lstm", ('model.recurrence="batched"',)),
    ("lstm", ('model.recurrence="one_by_one"',)),
    ("series", ()),
    ("table", ()),  # a single output
    ("table", ('data="sklearn:iris"', "model.batch_size=3")),  # matrices of odd sizes
    ("text", ()),
]


@pytest.mark.parametrize(("space", "sets"), SPACES)
def test_no_float_depends_on_who_trains_beside(space: str, sets: Sequence[str]) -> None:
    parts = assemble(read_configuration(space, sets, {"sampler": "random"}))
    history = History(parts.objectives)
    plan = parts.evaluator().plan(parts.sampler().propose(parts.space, history), history)
    trained = {one.trial: one.settings for one in plan.candidates}
    for chunk in plan.chunks:
        check_alone(parts.task, [read_member(trained[t], t, parts.task) for t in chunk])


def check_alone(task: Task, members: Sequence[Member]) -> None:
    """Fail where a particle's weights or scores are not what they are in one tile of them all."""
    found = []
    for cut in (Cut(), Cut(len(members), 1)):
        training = TiledTraining(task, members, STEPS, CPU, cut)
        training.advance(STEPS)
        rows = training.rows
        weights = [training.true_parameters(position) for position in range(len(rows))]
        found.append(dict(zip(rows, zip(weights, training.score(), strict=True), strict=True)))
    together, alone = found
    for row, (weights, scores) in together.items():
        assert alone[row][1] == scores, members[row].model
        for name, values in weights.items():
            assert torch.equal(alone[row][0][name], values), (name, members[row].model)


ALIKE = [
    {"mechanism": "linear", "heads": 1, "head_dim": 5},
    {"mechanism": "linear", "heads": 4, "head_dim": 17},  # too wide to stand side by side
    {"heads": 1, "head_dim": 1},
    {"heads": 3, "head_dim": 3, "attention_dropout": 0.2, "dropout": 0.1},
    {"heads": 4, "head_dim": 4, "sink": "learned"},
    {"heads": 1, "adaptive_temperature": True},
    {"heads": 3, "head_dim": 3, "adaptive_temperature": True},
    {"mechanism": "sparse", "heads": 1, "entmax_alpha": 1.3},
    {"mechanism": "block_low_rank", "heads": 3, "head_dim": 3, "attention_dropout": 0.2},
    *(
        {"family": "lstm", "hidden": 7, **own}
        for own in (
            {"score": "additive", "heads": 1, "attention_dim": 8},
            {"score": "additive", "heads": 1, "attention_dim": 1},
            {"score": "self_attentive", "hops": 1, "attention_dim": 1},
            {"hidden": 40, "score": "general", "local": "predictive", "window_tokens": 3},
            {"score": "dot", "sentinel": True},
        )
    ),
]


@pytest.mark.parametrize("settings", ALIKE, ids=lambda own: " ".join(map(str, own.values())))
@pytest.mark.parametrize("batch", [3, 16])
def test_no_float_depends_on_who_shares_a_kernel(
    settings: dict[str, Any], batch: int, digits: Task, numbers: Task
) -> None:
    """Of three particles that differ in nothing but the seed, at sizes that are odd."""
    tasks = (digits,) if "family" in settings else (digits, numbers)  # ten outputs, and one
    for task in tasks:
        given = {"d_model": 10, "batch_size": batch, **settings}
        members = [read_member(given, seed, task) for seed in range(3)]
        check_alone(task, members)


@pytest.mark.parametrize("batch", [3, 16])
def test_no_float_depends_on_how_sparse_the_others_are(batch: int, digits: Task) -> None:
    given = {"d_model": 10, "batch_size": batch, "mechanism": "sparse", "heads": 3, "head_dim": 3}
    alphas = (1.5, 1.7, 2.0, 1.5, 1.2, [1.5, 1.9])
    members = [read_member({**given, "entmax_alpha": a}, 0, digits) for a in alphas]
    check_alone(digits, members)


@pytest.mark.parametrize("own", [{"heads": 3}, {"heads": 1, "learned_temperature": True}], ids=str)
@pytest.mark.parametrize("mechanism", ["softmax", "block_low_rank", "sparse"])
def test_no_float_of_long_sequences_depends_on_who_shares_a_kernel(
    mechanism: str, own: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 300)
    task = make_task("text", str(path), columns={"tokens": FUSED_TOKENS})
    given = {"d_model": 12, "layers": 1, "batch_size": 2, "mechanism": mechanism, **own}
    check_alone(task, [read_member(given, seed, task) for seed in range(3)])


@pytest.mark.parametrize(
    "other",
    [
        *({"softcap": 5.0}, {"sink": "zero"}, {"adaptive_span": True}, {"qk_norm": True}),
        *({"attention_dropout": 0.2}, {"window_tokens": 8}),
    ],
    ids=str,
)
def test_no_float_of_a_long_sequence_depends_on_the_knobs_of_others(
    other: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 300)
    task = make_task("text", str(path), columns={"tokens": FUSED_TOKENS})
    given = {"d_model": 12, "layers": 1, "batch_size": 2, "heads": 3, "temperature": 1.3}
    check_alone(task, [read_member({**given, **own}, 1, task) for own in ({}, other, {})])


@pytest.mark.parametrize(
    "other",
    [
        *({"softcap": 5.0}, {"sink": "zero"}, {"adaptive_span": True}, {"qk_norm": True}),
        *({"attention_dropout": 0.2}, {"learned_temperature": True}, {"positions": "rotary"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("mechanism", ["softmax", "block_low_rank", "top_k"])
def test_no_float_depends_on_the_knobs_of_others(
    mechanism: str, other: dict[str, Any], digits: Task
) -> None:
    if mechanism == "block_low_rank" and {"adaptive_span", "positions"} & other.keys():
        return  # neither is built for it
    given = {"d_model": 12, "layers": 1, "batch_size": 3, "heads": 3, "temperature": 1.3}
    given["mechanism"] = mechanism
    check_alone(digits, [read_member({**given, **own}, 1, digits) for own in ({}, other, {})])


@pytest.mark.parametrize("own", [{"softcap": 5.0}, {"mechanism": "top_k"}], ids=str)
def test_no_float_depends_on_the_sinks_of_others(own: dict[str, Any]) -> None:
    """With rows of 9 keys, which are summed up otherwise than 10."""
    task = make_task("text", columns={"tokens": 9})
    given = {"d_model": 8, "layers": 1, "batch_size": 2, "heads": 2, **own}
    sinks = ("none", "zero", "learned", "none")
    check_alone(task, [read_member({**given, "sink": kind}, 1, task) for kind in sinks])


@pytest.fixture(scope="module")
def digits() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def numbers() -> Task:
    return make_task("table", "sklearn:diabetes")


def test_one_column_has_the_floats_and_gradients_that_it_has_among_others() -> None:
    draw = torch.Generator().manual_seed(0)
    for rows, width in ((8, 64), (16, 32), (128, 24), (512, 96)):
        bias, a, b, weights = (
            torch.randn(5, *shape, generator=draw)
            for shape in ((1, 1), (rows, width), (width, 1), (rows, 1))
        )
        given = [[x[:count].clone().requires_grad_() for x in (bias, a, b)] for count in (1, 5)]
        results = [by_gemm(torch.baddbmm, *stacks) for stacks in given]
        assert torch.equal(results[0], results[1][:1])
        for result in results:
            (result * weights[: len(result)]).sum().backward()  # type: ignore[no-untyped-call]
        for one, many in zip(*given, strict=True):
            assert one.grad is not None
            assert many.grad is not None
            assert torch.equal(one.grad, many.grad[:1])
