"""The built-in spaces: a particle trains to the same floats by itself as among all of a swarm."""

from collections.abc import Sequence

import pytest
import torch

from pso_attn.assembly import assemble
from pso_attn.attention.alike import by_gemm
from pso_attn.config import read_configuration
from pso_attn.evaluate.tiles import Cut, TiledTraining
from pso_attn.evaluate.training import read_member
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
        members = [read_member(trained[trial], trial, parts.task) for trial in chunk]
        found = []
        for cut in (Cut(), Cut(len(members), 1)):
            training = TiledTraining(parts.task, members, STEPS, CPU, cut)
            training.advance(STEPS)
            rows = training.rows
            weights = [training.true_parameters(position) for position in range(len(rows))]
            found.append(dict(zip(rows, zip(weights, training.score(), strict=True), strict=True)))
        together, alone = found
        for row, (weights, scores) in together.items():
            assert alone[row][1] == scores, trained[chunk[row]]
            for name, values in weights.items():
                assert torch.equal(alone[row][0][name], values), (name, trained[chunk[row]])


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
