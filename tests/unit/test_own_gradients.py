"""Gradients written by hand, held against those that autograd finds for the plain formula."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, layer_norm

from pso_attn.attention.linear import _positive
from pso_attn.attention.projected import by_heads
from pso_attn.models.norm import normed

PARTICLES, BATCH, LENGTH, HEADS, WIDTH = 3, 2, 5, 4, 6


def gradients(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function's value and the gradient of a weighted sum of it."""
    leaf = x.clone().requires_grad_()
    value = function(leaf)
    draws = torch.Generator().manual_seed(1)
    weights = torch.randn(value.shape, generator=draws, dtype=value.dtype)
    (gradient,) = torch.autograd.grad((value * weights).sum(), leaf)
    return value.detach(), gradient


def assert_alike(
    ours: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    for mine, theirs in zip(gradients(ours, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 2, 16, 33])
def test_the_norm_is_that_of_torch(width: int) -> None:
    x = 3 * drawn(PARTICLES, 7, width) + 2
    assert_alike(normed, lambda x: layer_norm(x, (width,)), x)


def test_the_norm_of_equal_entries_is_zero_and_finite() -> None:
    value, gradient = gradients(normed, torch.full((2, 3, 8), 7.0, dtype=torch.float64))
    assert bool((value == 0).all())
    assert bool(gradient.isfinite().all())


def test_the_norm_keeps_digits_beside_a_large_mean() -> None:
    x = drawn(4, 16).float() + 1000
    torch.testing.assert_close(normed(x), normed(x.double()).float(), rtol=1e-3, atol=1e-4)


def test_features_of_linear_attention_are_elu_plus_one() -> None:
    x = torch.cat([drawn(PARTICLES, 40), torch.tensor([[0.0, -30.0, 30.0]] * PARTICLES)], 1)
    assert_alike(_positive, lambda x: elu(x) + 1, x)


@pytest.mark.parametrize("in_token_order", [False, True])
def test_heads_are_the_projections_columns_and_so_are_their_gradients(
    in_token_order: bool,
) -> None:
    def ours(projected: Tensor) -> Tensor:
        q, k, v = by_heads(projected, LENGTH, HEADS, in_token_order)
        return torch.stack((q, k.exp(), v * v))

    def plain(projected: Tensor) -> Tensor:
        q, k, v = projected.chunk(3, -1)
        parts = [x.view(PARTICLES, BATCH, LENGTH, HEADS, WIDTH) for x in (q, k, v)]
        q, k, v = (x.transpose(2, 3) for x in parts)
        return torch.stack((q, k.exp(), v * v))

    x = drawn(PARTICLES, BATCH * LENGTH, 3 * HEADS * WIDTH)
    assert_alike(ours, plain, x)
    q, _, _ = by_heads(x, LENGTH, HEADS, in_token_order)
    assert (q.data_ptr() == x.data_ptr()) == in_token_order  # a view where it says so
