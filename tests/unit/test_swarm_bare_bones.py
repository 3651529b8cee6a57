import numpy as np
import pytest

from pso_attn.swarm import BareBonesSwarm
from pso_attn.swarm.bare_bones import between
from pso_attn.testing import finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import cube, labels
from pso_attn.types import History


def history_of(*generations):
    """Make a history from generations of (position, loss), a row for each particle."""
    return History(
        MINIMISED,
        tuple(
            tuple(
                finished(number, number * len(rows) + i, i, np.array(position), loss)
                for i, (position, loss) in enumerate(rows)
            )
            for number, rows in enumerate(generations)
        ),
    )


def proposed(history, dimension, seeds=400, **options):
    """Return what many seeds propose after the history, (seeds, P, D)."""
    particles = len(history.generations[0])
    return np.stack(
        [
            BareBonesSwarm(seed, particles, particles, 9, options)
            .propose(cube(dimension), history)
            .positions
            for seed in range(seeds)
        ]
    )


def test_draws_are_gaussian_between_the_bests_and_as_wide_as_they_are_apart():
    rng = np.random.default_rng(0)
    one, other = np.array([0.4, 0.5, 0.3]), np.array([0.6, 0.5, 0.2])
    drawn = np.stack([between(one, other, rng) for _ in range(20_000)])
    np.testing.assert_allclose(drawn.mean(axis=0), [0.5, 0.5, 0.25], atol=0.005)
    np.testing.assert_allclose(drawn.std(axis=0), [0.2, 0.0, 0.1], atol=0.005)


def test_particles_are_drawn_between_their_best_and_the_best_in_sight():
    rows = [((0.45,), 2.0), ((0.55,), 1.0), ((0.5,), 3.0)]
    moved = proposed(history_of(rows), 1, topology="star")[:, :, 0]
    np.testing.assert_allclose(moved.mean(axis=0)[[0, 2]], [0.5, 0.525], atol=0.02)
    np.testing.assert_allclose(moved.std(axis=0)[[0, 2]], [0.1, 0.05], rtol=0.15)


def test_the_leader_learns_from_the_next_best_instead_of_resting():
    rows = [((0.45,), 2.0), ((0.55,), 1.0), ((0.9,), 3.0)]
    leader = proposed(history_of(rows), 1, topology="star")[:, 1, 0]
    assert leader.mean() == pytest.approx(0.5, abs=0.02)
    assert leader.std() == pytest.approx(0.1, rel=0.15)


def test_neither_position_nor_velocity_matters_beside_the_bests():
    best = [((0.2, 0.4), 1.0), ((0.6, 0.8), 2.0), ((0.4, 0.1), 3.0)]
    one = history_of(best, [((0.1, 0.1), 9.0)] * 3)
    two = history_of(best, [((0.9, 0.7), 8.0)] * 3)
    swarm = BareBonesSwarm(0, 3, 3, 9)
    np.testing.assert_array_equal(
        swarm.propose(cube(2), one).positions, swarm.propose(cube(2), two).positions
    )


def test_exploiting_keeps_that_share_of_coordinates_at_the_personal_best():
    rows = [((0.45,), 2.0), ((0.55,), 1.0), ((0.5,), 3.0)]
    kept = proposed(history_of(rows), 1, exploit=0.5)[:, 0, 0] == 0.45
    assert kept.mean() == pytest.approx(0.5, abs=0.08)
    assert not (proposed(history_of(rows), 1, seeds=50)[:, 0, 0] == 0.45).any()


def test_where_nobody_else_has_a_best_the_position_stands_for_it():
    rows = [((0.4,), 1.0), ((0.9,), None), ((0.9,), None)]
    later = [((0.6,), 2.0), ((0.9,), None), ((0.9,), None)]
    drawn = proposed(history_of(rows, later), 1)[:, 0, 0]
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)


def test_a_label_is_the_own_best_or_the_one_in_sight_with_like_chances():
    space = labels(1)
    history = history_of([((0.25,), 2.0), ((0.75,), 1.0)])
    drawn = [
        BareBonesSwarm(seed, 2, 2, 9, {"jump_rate": 0.0}).propose(space, history).positions[0, 0]
        for seed in range(400)
    ]
    assert set(drawn) == {0.25, 0.75}
    assert np.mean(np.array(drawn) == 0.25) == pytest.approx(0.5, abs=0.08)
