from dataclasses import replace

import numpy as np
import pytest
from cmaes import CatCMAwM

from pso_attn.baselines import CovarianceAdaptation, RandomSearch
from pso_attn.baselines.cma_es import SPREAD, population
from pso_attn.seeding import generator
from pso_attn.space import Knob
from pso_attn.testing import drive, finished
from pso_attn.testing.driving import MINIMISED, best_loss
from pso_attn.testing.spaces import cube, mixed, space_of
from pso_attn.types import History

MIXED = mixed()


def sphere(params):
    return sum((value - 0.3) ** 2 for value in params.values())


def bowl(params):
    return (
        (params["kind"] != "c")
        + (not params["gate"])
        + abs(np.log2(params["heads"]) - 3)
        + abs(np.log(params["window"] / 40))
        + abs(np.log10(params["rate"]) + 3.5)
    )


def told(losses, fidelities=None, particles=6):
    """Return a sampler and the history of a first batch that ended with these losses."""
    sampler = CovarianceAdaptation(3, particles, len(losses), 5)
    space = cube(3)
    positions = sampler.propose(space, History(MINIMISED)).positions
    trials = tuple(
        finished(0, i, i, position, loss, fidelity)
        for i, (position, loss, fidelity) in enumerate(
            zip(positions, losses, fidelities or [1.0] * len(losses), strict=True)
        )
    )
    return sampler.propose(space, History(MINIMISED, (trials,))).positions


def live_positions(function, generations, batch, seed):
    """Ask and tell cmaes itself on the mixed space, its columns put together by hand."""
    size = population(6, batch)
    live = CatCMAwM(
        x_space=[[0.0, 1.0]] * 2,  # rate, slope
        z_space=[range(4), range(63)],  # heads, window
        c_space=[3, 2],  # kind, gate
        population_size=size,
        sigma=SPREAD,
    )
    positions, told = [], []
    for number in range(generations):
        live.reseed_rng(int(generator(seed, number, "cmaes").integers(2**31)))
        for drawn in [live.ask() for _ in range(batch)]:
            kind, gate = drawn.c.argmax(axis=1)
            window = MIXED.coordinates[3].scale.point(2 + int(drawn.z[1]))
            x = np.array(
                [(drawn.z[0] + 0.5) / 4, (kind + 0.5) / 3, (gate + 0.5) / 2, window, *drawn.x]
            )
            if not positions:  # trained at the defaults; what they share with the draw stays raw
                numbers, centres = [4, 5, 0, 3], [2 / 3, 0.5, 2.0, 6.0]
                raw = np.where(MIXED.starts[0][numbers] == x[numbers], drawn._v_raw, centres)
                chosen = np.array([[False, True, False], [True, False, False]])
                x, drawn = MIXED.starts[0], replace(drawn, c=chosen, _v_raw=raw)
            positions.append(x)
            told.append((drawn, function(MIXED.decode(x))))
        if len(told) == size:
            ranked = sorted(told, key=lambda each: each[1])
            live.tell([(drawn, float(rank)) for rank, (drawn, _) in enumerate(ranked)])
            told = []
    return np.stack(positions)


@pytest.mark.parametrize("batch", [3, 9])
def test_a_replayed_search_is_the_one_that_cmaes_itself_would_make(batch):
    """With the best rate beyond the range, so that draws are clipped, and conditions ignored."""

    def edge(params):
        return bowl(params) + 3 * np.log10(params["rate"]) + params["heads"] / 100

    history = drive(CovarianceAdaptation(5, 9, batch, 60 // batch), MIXED, edge, 60 // batch)
    ours = np.stack([trial.candidate.position for trial in history.trials])
    assert np.any(ours == 0.0)  # clipped
    np.testing.assert_allclose(ours, live_positions(edge, 60 // batch, batch, 5), atol=1e-12)


def test_it_narrows_in_on_a_sphere():
    for seed in range(3):
        searched = drive(CovarianceAdaptation(seed, 10, 10, 20), cube(5), sphere, 20)
        drawn = drive(RandomSearch(seed, 10, 10, 20), cube(5), sphere, 20)
        assert best_loss(searched) < best_loss(drawn) / 10


def test_it_finds_labels_steps_and_numbers_together():
    searched = [
        best_loss(drive(CovarianceAdaptation(seed, 10, 10, 30), MIXED, bowl, 30))
        for seed in range(3)
    ]
    drawn = [
        best_loss(drive(RandomSearch(seed, 10, 10, 30), MIXED, bowl, 30)) for seed in range(3)
    ]
    assert np.median(searched) < np.median(drawn) / 2


@pytest.mark.parametrize(
    ("dimension", "batch", "expected"),
    [(10, 10, 10), (10, 1, 10), (20, 10, 10), (5, 4, 8), (5, 1, 8), (1, 3, 6), (10, 64, 64)],
)
def test_a_generation_is_whole_batches_near_the_usual_population(dimension, batch, expected):
    assert population(dimension, batch) == expected


def test_a_generation_of_failures_teaches_nothing():
    nothing = told([None] * 6)
    infinite = told([float("inf")] * 6)
    one = told([1.0] + [None] * 5)
    np.testing.assert_array_equal(nothing, infinite)
    assert not np.array_equal(nothing, one)


def test_a_pruned_loss_is_behind_every_full_one():
    full = [3.0, 4.0, 5.0, 6.0]
    np.testing.assert_array_equal(
        told([*full, 0.1, 0.2], [1.0] * 4 + [0.5] * 2),
        told([*full, 7.0, 8.0]),
    )


def test_longer_trained_ones_are_ahead_among_the_pruned():
    losses = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    np.testing.assert_array_equal(
        told(losses, [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]), told([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    )
    assert not np.array_equal(
        told(losses, [0.25, 0.25, 0.25, 0.5, 0.5, 0.5]), told(losses, [0.5] * 6)
    )


def test_losses_count_by_their_order_alone():
    np.testing.assert_array_equal(
        told([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), told([-1e300, 0.0, 1.0, 1e3, 1e9, 1e300])
    )


def test_what_was_repaired_is_told_as_it_was_trained():
    sampler, space = CovarianceAdaptation(3, 6, 6, 5), cube(3)
    first = sampler.propose(space, History(MINIMISED)).positions

    def next_after(positions):
        trials = tuple(finished(0, i, i, x, float(i)) for i, x in enumerate(positions))
        return sampler.propose(space, History(MINIMISED, (trials,))).positions

    moved = first.copy()
    moved[1] = [0.9, 0.9, 0.9]  # the second best of the batch
    towards = next_after(moved).mean(axis=0) - next_after(first).mean(axis=0)
    assert np.all(towards > 0)


def test_an_integer_of_a_million_values_is_searched():
    space = space_of([Knob("size", "int", "A count.", low=1, high=10**6)])
    history = drive(
        CovarianceAdaptation(0, 8, 8, 20), space, lambda params: abs(params["size"] - 7e5), 20
    )
    assert best_loss(history) < 1e3


def test_a_distribution_that_has_narrowed_to_a_point_still_proposes():
    history = drive(CovarianceAdaptation(0, 8, 8, 150), cube(2), sphere, 150)
    assert best_loss(history) < 1e-15
    assert np.all(np.isfinite([trial.candidate.position for trial in history.trials]))
