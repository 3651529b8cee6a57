"""Weights by α-entmax: the threshold is found to the last digits, and cheaply at the usual α."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pso_attn.attention import MECHANISMS
from pso_attn.attention.sparse import Entmax
from pso_attn.testing.mechanisms import make_layer, scaled

WIDTH = 200  # keys of a row


def rows() -> Tensor:
    """Return scores (1, rows, keys) of many shapes: even, peaked, level, stepped, in parts −∞."""
    draw = torch.rand(30, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    powers = torch.linspace(0.1, 20, 30, dtype=torch.float64)[:, None]
    shapes = [
        *(spread * draw for spread in (1e-6, 0.1, 1.0, 10.0, 300.0)),
        -(draw**powers),
        -(1 - draw**powers),
        -(1 - 10 ** (-6 * draw)),
        -torch.arange(WIDTH, dtype=torch.float64)[None] * powers / 50,
        torch.zeros(1, WIDTH, dtype=torch.float64),
    ]
    return torch.cat([*shapes, shapes[2].masked_fill(draw < 0.9, float("-inf"))])[None]


def by_bisection(scores: Tensor, alpha: float) -> Tensor:
    """Return the weights, the threshold between two numbers that are neighbours."""
    above = (scores - scores.amax(-1, keepdim=True)) * (alpha - 1)
    low = -torch.ones_like(above[..., :1])
    high = torch.zeros_like(low)

    def weights(threshold: Tensor) -> Tensor:
        return (above - threshold).clamp(min=0).pow(1 / (alpha - 1))

    for _ in range(100):
        middle = (low + high) / 2
        is_low = weights(middle).sum(-1, keepdim=True) >= 1
        low, high = middle.where(is_low, low), high.where(is_low, middle)
    return weights(low)


@pytest.mark.parametrize("alpha", [1.01, 1.1, 1.3, 1.5, 1.7, 1.9, 1.99, 2.0])
def test_the_steps_are_enough_for_rows_of_any_shape(alpha: float) -> None:
    scores = rows()
    power = make_layer("sparse", entmax_alpha=alpha).whole_power
    found = Entmax.apply(scores, torch.full((1, 1, 1), alpha, dtype=scores.dtype), power)
    truth = by_bisection(scores, alpha)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-11)


@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-8, 1e-7, 5e-7, 2e-6])
@pytest.mark.parametrize("usual", [1.5, 2.0])
def test_an_alpha_next_to_a_usual_one_gives_its_weights_and_gradients(
    usual: float, off: float
) -> None:
    """In float32, where 2 − 1e-8 is 2 and any power of nothing would be one."""
    found = []
    for alpha in (usual, usual - off):
        member = make_layer("sparse", heads=2, head_dim=3, entmax_alpha=alpha)
        q, k, v = 3 * torch.randn(3, 1, 4, 2, 40, 3, generator=torch.Generator().manual_seed(0))
        kernel = MECHANISMS["sparse"]([member], 40, False, q.requires_grad_())
        out = kernel(scaled(kernel, q), k, v, None)
        found.append([out, *torch.autograd.grad((out * v).sum(), [q])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("alpha", "takes"), [(1.5, False), (2.0, False), (1.7, True)])
def test_where_the_power_is_whole_no_score_is_raised_to_one(alpha: float, takes: bool) -> None:
    members = [make_layer("sparse", heads=2, head_dim=3, entmax_alpha=alpha)] * 2
    q, k, v = torch.randn(3, 2, 4, 2, 5, 3, generator=torch.Generator().manual_seed(0))
    q.requires_grad_()
    kernel = MECHANISMS["sparse"](members, 5, False, q)
    with _Powers() as powers:
        kernel(scaled(kernel, q), k, v, None).sum().backward()
    assert (max(powers.sizes) >= 2 * 4 * 2 * 5 * 5) == takes


class _Powers(TorchDispatchMode):
    """Notes of how many numbers a power was taken, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [0]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func.overloadpacket is torch.ops.aten.pow:
            self.sizes.append(args[0].numel())
        return func(*args, **(kwargs or {}))
