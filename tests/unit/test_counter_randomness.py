"""Dropout by counter: who draws what depends on seed, step, site and coordinate alone."""

import math
import weakref
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pso_attn.counter import LASTING, DropRates, dropout_scale, keys
from pso_attn.evaluate.order import DataOrder
from pso_attn.seeding import training_seed

SIGMAS = 5.0  # a fixed draw, so either it holds for ever or it does not


def test_a_key_depends_on_its_own_seed_step_and_site_alone() -> None:
    many = keys(np.array([7, 8, 9]), steps=20, sites=6)
    assert many.shape == (20, 6, 3)
    assert many.dtype == torch.int32
    for column, seed in enumerate((7, 8, 9)):
        alone = keys(np.array([seed]), steps=5, sites=2)
        assert torch.equal(alone[..., 0], many[:5, :2, column])


def test_keys_of_different_steps_sites_and_seeds_differ() -> None:
    seeds = np.array([0, 1, 2, 3, 2**31 - 1, training_seed(0, 0), training_seed(0, 1)])
    drawn = keys(seeds, steps=300, sites=12)
    assert len(drawn.unique()) > drawn.numel() - 3  # 25,200 of 2^32: a tenth of a collision


def test_a_mask_does_not_depend_on_who_shares_the_batch() -> None:
    key = keys(np.array([5, 6, 7, 8]), 1, 1)[0, 0]
    rate = torch.tensor([0.1, 0.5, 0.0, 0.9])
    together = dropout_scale(key, DropRates.of(rate), (3, 4, 5))
    for row in range(4):
        alone = dropout_scale(key[row : row + 1], DropRates.of(rate[row : row + 1]), (3, 4, 5))[0]
        assert torch.equal(together[row], alone)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(
        dropout_scale(key[order], DropRates.of(rate[order]), (3, 4, 5)), together[order]
    )


def test_factors_laid_out_in_another_order_are_the_same_numbers() -> None:
    key, rates = keys(np.array([5, 6]), 1, 1)[0, 0], DropRates.of(torch.tensor([0.3, 0.6]))
    plain = dropout_scale(key, rates, (2, 3, 4))
    laid = dropout_scale(key, rates, (2, 3, 4), (1, 0, 2))
    assert torch.equal(laid, plain)
    assert (plain.stride(), laid.stride()) == ((24, 12, 4, 1), (24, 4, 8, 1))


@pytest.mark.parametrize("is_large", [False, True])
def test_tables_of_coordinates_are_shared_and_large_ones_freed_after_use(is_large: bool) -> None:
    shape, order = (2, LASTING // 2 + is_large), (0, 1)
    users = [DropRates.of(torch.tensor([0.1])) for _ in range(2)]
    one, other = (rates.coordinates(shape, order) for rates in users)
    assert one is other
    left = weakref.ref(one)
    del one, other, users
    assert (left() is None) == is_large


def test_drawing_touches_no_global_generator() -> None:
    before = torch.random.get_rng_state()
    key = keys(np.array([5]), 3, 3)[0, 0]
    first = dropout_scale(key, DropRates.of(torch.tensor([0.5])), (50,))
    torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, dropout_scale(key, DropRates.of(torch.tensor([0.5])), (50,)))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rate_zero_keeps_everything_exactly(dtype: torch.dtype) -> None:
    key = torch.tensor([0, 1, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    factors = dropout_scale(key, DropRates.of(torch.zeros(5, dtype=dtype)), (1000,))
    assert torch.equal(factors, torch.ones(5, 1000, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_factor_is_zero_or_what_keeps_the_mean(dtype: torch.dtype) -> None:
    rate = torch.tensor([0.3], dtype=dtype)
    factors = dropout_scale(keys(np.array([3]), 1, 1)[0, 0], DropRates.of(rate), (1000,))
    assert factors.dtype == dtype
    assert set(factors.unique().tolist()) == {0.0, (1 / (1 - rate)).item()}


def test_the_same_coordinates_are_dropped_in_both_precisions() -> None:
    key = keys(np.arange(20), 1, 1)[0, 0]
    rate = torch.linspace(0.0, 0.95, 20, dtype=torch.float64)
    single = dropout_scale(key, DropRates.of(rate.float()), (500,)) == 0
    double = dropout_scale(key, DropRates.of(rate), (500,)) == 0
    assert torch.equal(single, double)


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
def test_the_share_dropped_is_the_rate(chance: float) -> None:
    dropped = masks(chance, seeds=4, steps=20, sites=3, count=1000)  # 240,000 draws
    sigma = math.sqrt(chance * (1 - chance) / dropped.numel())
    assert abs(float(dropped.mean()) - chance) < SIGMAS * sigma


@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_the_number_dropped_varies_between_masks_as_a_binomial_does(chance: float) -> None:
    count, drawn = 400, masks(chance, seeds=10, steps=40, sites=6, count=400)
    numbers = drawn.view(-1, count).sum(1)
    ratio = float(numbers.var() / (count * chance * (1 - chance)))
    assert abs(ratio - 1) < SIGMAS * math.sqrt(2 / len(numbers))


@pytest.mark.parametrize("axis", ["seed", "step", "site", "coordinate"])
@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_draws_that_differ_in_one_of_the_four_are_uncorrelated(axis: str, chance: float) -> None:
    drawn = masks(chance, seeds=8, steps=8, sites=8, count=512)
    centred = (drawn - chance) / math.sqrt(chance * (1 - chance))
    where = ["seed", "step", "site", "coordinate"].index(axis)
    for gap in (1, 2, 3, 4):
        size = centred.shape[where]
        products = centred.narrow(where, 0, size - gap) * centred.narrow(where, gap, size - gap)
        assert abs(float(products.mean())) < SIGMAS / math.sqrt(products.numel())


def test_no_two_masks_of_a_training_agree_more_than_chance_lets_them() -> None:
    flat = masks(0.5, seeds=3, steps=10, sites=6, count=2048).view(-1, 2048) * 2 - 1
    agreement = (flat @ flat.T / math.sqrt(2048)).fill_diagonal_(0)  # standard normal
    assert float(agreement.abs().max()) < SIGMAS + 0.5  # 16,110 pairs: 4.2 sigmas are expected


def test_each_epoch_of_the_data_order_is_a_permutation() -> None:
    order = ordered(np.array([4, 9]), examples=13, steps=26, batch=3)
    assert order.shape == (26, 2, 3)
    for particle in range(2):
        epochs = order[:, particle].reshape(-1, 13)
        assert len(epochs) == 6
        for epoch in epochs:
            assert sorted(epoch.tolist()) == list(range(13))
        assert all(not torch.equal(a, b) for a, b in combinations(epochs, 2))


def test_a_data_order_is_that_of_its_seed_whoever_shares_the_batch_and_for_how_long() -> None:
    together = ordered(np.array([4, 9, 4]), examples=13, steps=10, batch=5)
    assert torch.equal(together[:, 0], together[:, 2])
    for column, seed in enumerate((4, 9)):
        alone = ordered(np.array([seed]), examples=13, steps=7, batch=5)
        assert torch.equal(alone[:, 0], together[:7, column])
    assert not torch.equal(together[:, 0], together[:, 1])


def test_particles_of_one_seed_share_one_column_of_the_ordered() -> None:
    assert ordered(np.array([4, 4, 4]), examples=13, steps=10, batch=5).shape == (10, 1, 5)


def ordered(seeds: Any, examples: int, steps: int, batch: int) -> Tensor:
    """Return what all steps train on, (steps, N or 1, B)."""
    order = DataOrder(seeds, examples, steps, batch, torch.device("cpu"))
    return torch.stack([order.at(step) for step in range(steps)])


def masks(chance: float, seeds: int, steps: int, sites: int, count: int) -> Tensor:
    """Return what is dropped, one where it is: float64 (seeds, steps, sites, count)."""
    drawn = keys(np.arange(seeds), steps, sites).permute(2, 0, 1).flatten()
    rate = torch.full((len(drawn),), chance, dtype=torch.float64)
    dropped = dropout_scale(drawn, DropRates.of(rate), (count,)) == 0
    return dropped.double().view(seeds, steps, sites, count)
