"""Gradients written by hand, held against those that autograd finds for the plain formula."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, gelu, layer_norm

from pso_attn.attention import Noise
from pso_attn.attention.linear import _positive
from pso_attn.attention.plain import attended
from pso_attn.attention.projected import by_heads, by_tokens
from pso_attn.counter import DropRates, keys
from pso_attn.models import feedforward
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


@pytest.mark.parametrize("in_token_order", [False, True])
@pytest.mark.parametrize("width", [2, 3, 4, 8])
def test_tokens_are_the_heads_side_by_side(in_token_order: bool, width: int) -> None:
    def lying(x: Tensor) -> Tensor:
        return x.transpose(2, 3).contiguous().transpose(2, 3) if in_token_order else x

    x = drawn(PARTICLES, BATCH, HEADS, LENGTH, width)
    assert_alike(
        lambda x: by_tokens(lying(x)),
        lambda x: x.transpose(2, 3).reshape(PARTICLES, BATCH * LENGTH, -1),
        x,
    )


@pytest.mark.parametrize("at_once", [1, 2 * 12 * 9, 10**6])  # one particle, two, all three
@pytest.mark.parametrize("drops", [False, True])
def test_a_fed_forward_layer_is_the_formula_in_value_and_all_gradients(
    at_once: int, drops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedforward, "AT_ONCE", at_once)
    rows, width, hidden = 12, 5, 9
    sizes = (rows * width, width * hidden, hidden * width)
    factors = drawn(PARTICLES, rows, width).abs() if drops else None

    def taken(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, expand, contract = packed.split(sizes, 1)
        return (
            x.unflatten(1, (rows, -1)),
            expand.unflatten(1, (width, -1)),
            contract.unflatten(1, (hidden, -1)),
        )

    def plain(packed: Tensor) -> Tensor:
        x, expand, contract = taken(packed)
        added = gelu(layer_norm(x, (width,)) @ expand) @ contract
        return x + (added if factors is None else added * factors)

    packed = drawn(PARTICLES, sum(sizes))
    assert_alike(lambda x: feedforward.fed_forward(*taken(x), factors), plain, packed)


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("width", [5, 32])
def test_a_fed_forward_layer_has_the_same_floats_in_blocks_and_as_a_whole(
    drops: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, since tiles of other sizes take other blocks."""
    x, factors = drawn(PARTICLES, 24, width).float(), drawn(PARTICLES, 24, width).float()
    expand, contract = drawn(PARTICLES, width, 40).float(), drawn(PARTICLES, 40, width).float()
    found = []
    for at_once in (1, 2 * 24 * 40, 10**6):
        monkeypatch.setattr(feedforward, "AT_ONCE", at_once)
        leaves = [y.clone().requires_grad_() for y in (x, expand, contract)]
        out = feedforward.fed_forward(leaves[0], leaves[1], leaves[2], factors if drops else None)
        found.append([out, *torch.autograd.grad((out * factors).sum(), leaves)])
    for blocks in found[:2]:
        assert all(map(torch.equal, blocks, found[2]))


@pytest.mark.parametrize("length", [5, 17])  # heads side by side, and one by one
@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_plain_attention_is_the_formula_in_value_and_all_gradients(
    length: int, drops: bool, biased: bool
) -> None:
    bias = None
    if biased:
        bias = drawn(PARTICLES, 1, HEADS, length, length)
        bias = bias.masked_fill(torch.ones(length, length).triu(1) > 0, float("-inf"))
    rates = DropRates.of(torch.tensor([0.0, 0.3, 0.6], dtype=torch.float64))
    noise = Noise(keys(np.arange(PARTICLES), 1, 1)[0, 0], rates) if drops else None

    def plain(qkv: Tensor) -> Tensor:
        q, k, v = qkv.unbind(1)
        scores = q @ k.transpose(-1, -2)
        weights = (scores if bias is None else scores + bias).softmax(-1)
        return (weights if noise is None else noise.drop(weights)) @ v

    qkv = 2 * drawn(PARTICLES, 3, BATCH, HEADS, length, WIDTH)
    assert_alike(lambda x: attended(*x.unbind(1), bias, noise), plain, qkv)
