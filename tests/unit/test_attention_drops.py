"""Whole heads are dropped, and those that are left stand in for them."""

import numpy as np
import torch

from pso_attn.attention.drops import Noise, kept_share
from pso_attn.counter import DropRates, keys

PARTICLES, EXAMPLES, HEADS = 3, 400, 4


def dropped(rates: list[float]) -> torch.Tensor:
    """Return which share of its own scale each head of ones is left with: (P, B, H)."""
    key = keys(np.arange(len(rates)), 1, 1)[0, 0]
    noise = Noise(key, DropRates.of(torch.tensor(rates, dtype=torch.float64)))
    ones = torch.ones(len(rates), EXAMPLES, HEADS, 2, 3, dtype=torch.float64)
    values = noise.drop_heads(ones)
    assert torch.equal(values, values[..., :1, :1].expand_as(values))  # tokens and columns agree
    return values[..., 0, 0]


def test_heads_that_are_left_sum_to_all_heads() -> None:
    shares = dropped([0.0, 0.3, 0.8])
    some = (shares > 0).any(-1)
    sums = shares.sum(-1)
    torch.testing.assert_close(sums[some], torch.full_like(sums[some], HEADS))
    assert bool((sums[~some] == 0).all())
    assert not bool(some.all())


def test_heads_leave_as_often_as_the_rate_says() -> None:
    shares = dropped([0.0, 0.3, 0.8])
    gone = (shares == 0).double().mean((1, 2))
    assert gone[0] == 0
    torch.testing.assert_close(gone, torch.tensor([0.0, 0.3, 0.8]).double(), rtol=0, atol=0.05)


def test_examples_lose_different_heads() -> None:
    assert len(torch.unique((dropped([0.5])[0] > 0).int(), dim=0)) == 2**HEADS


def test_factors_of_any_size_give_the_same_shares() -> None:
    kept = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 2.0, 2.0, 0.0], [4.0, 0.0, 0.0, 0.0]])
    for size in (1.0, 1.25, 20.0):
        torch.testing.assert_close(kept_share(size * kept), expected)
