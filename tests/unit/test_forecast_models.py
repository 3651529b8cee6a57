"""Both families answer the asked tokens, and neither sees what it is asked for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.models import TaskInfo, model_cost, read_model, read_transformer, swarm_type
from pso_attn.models.swarm import Swarm

HORIZON, LENGTH = 3, 11
INFO = TaskInfo(None, 5, LENGTH, 1, causal=False, per_token=True, horizon=HORIZON)
FAMILIES: list[dict[str, Any]] = [
    {"family": "transformer", "layers": 2, "d_model": 12, "heads": 3},
    {"family": "lstm", "hidden": 6, "heads": 2},
]


def swarm(settings: dict[str, Any]) -> Swarm:
    model = read_model(settings, INFO)
    return swarm_type(model).started([model] * 2, INFO, [0, 1], torch.float64)


def windows(seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, LENGTH, 5, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda s: s["family"])
def test_each_asked_token_has_an_answer_that_hangs_on_all_that_is_seen(
    settings: dict[str, Any],
) -> None:
    inputs = windows().requires_grad_()
    answers = swarm(settings).forward(inputs)
    assert answers.shape == (2, 4, HORIZON, 1)
    (moved,) = torch.autograd.grad(answers[:, :, 0].sum(), inputs)
    assert bool((moved[0, :, : LENGTH - HORIZON + 1].abs().amax(-1) > 0).all())
    assert not torch.equal(answers[:, :, 0], answers[:, :, 1])


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda s: s["family"])
def test_the_plain_model_answers_as_the_swarm_does(settings: dict[str, Any]) -> None:
    model = swarm(settings)
    for row in range(2):
        alone = model.extract(row)(windows()[0])
        torch.testing.assert_close(alone, model.forward(windows())[row])


def test_a_transformer_reads_its_last_tokens_as_one_that_answers_at_each() -> None:
    settings = read_transformer(FAMILIES[0], INFO)
    at_each = TaskInfo(None, 5, LENGTH, 1, causal=False, per_token=True)
    kinds = (INFO, at_each)
    last, every = (swarm_type(settings).started([settings], i, [7], torch.float64) for i in kinds)
    expected = every.forward(windows())[:, :, -HORIZON:]
    torch.testing.assert_close(last.forward(windows()), expected)


def test_a_read_out_of_the_asked_tokens_alone_is_what_is_counted() -> None:
    settings = read_transformer(FAMILIES[0], INFO)
    at_each = TaskInfo(None, 5, LENGTH, 1, causal=False, per_token=True)
    saved = model_cost(settings, at_each, 1)["flops"] - model_cost(settings, INFO, 1)["flops"]
    assert saved == 3 * 2 * 12 * (LENGTH - HORIZON)
