import numpy as np
import pytest

from pso_attn.swarm.bounds import limit, reflect
from pso_attn.swarm.moves import Weights, constricted, copied_labels, inertial, velocity


def test_the_default_constriction_is_the_published_constant():
    weights = constricted(2.05, 2.05)
    assert weights.inertia == pytest.approx(0.7298, abs=5e-5)
    assert weights.cognitive == pytest.approx(1.49618, abs=5e-6)
    assert weights.social == weights.cognitive


def test_more_pull_is_constricted_more():
    assert constricted(2.5, 2.5).inertia < constricted(2.05, 2.05).inertia


def test_inertia_falls_linearly_over_the_original_budget_and_stays_there():
    weights = [inertial(2.0, 2.0, generation, 11).inertia for generation in range(20)]
    assert weights[0] == 0.9
    assert weights[5] == pytest.approx(0.65)
    np.testing.assert_allclose(weights[10:], 0.4)
    np.testing.assert_allclose(np.diff(weights[:11]), -0.05)


def test_a_budget_of_one_generation_starts_at_the_first_weight():
    assert inertial(2.0, 2.0, 0, 1).inertia == 0.9


def test_velocity_follows_the_equation_with_a_draw_for_each_coordinate():
    x, v = np.array([0.5, 0.2, 0.9]), np.array([0.1, 0.0, -0.1])
    personal, social = np.array([0.4, 0.2, 0.8]), np.array([0.9, 0.1, 0.9])
    r1, r2 = np.random.default_rng(3).random((2, 3))
    expected = [
        0.7 * v[d] + 1.5 * r1[d] * (personal[d] - x[d]) + 1.4 * r2[d] * (social[d] - x[d])
        for d in range(3)
    ]
    moved = velocity(x, v, personal, social, Weights(0.7, 1.5, 1.4), np.stack([r1, r2]))
    np.testing.assert_allclose(moved, expected, rtol=1e-15)
    assert len(set(np.concatenate([r1, r2]))) == 6


def test_nothing_pulls_where_both_bests_are_missing():
    x, v = np.full(4, 0.3), np.full(4, 0.1)
    moved = velocity(x, v, x, x, Weights(0.7, 1.5, 1.5), np.random.default_rng(0).random((2, 4)))
    np.testing.assert_allclose(moved, 0.07)


def test_labels_are_copied_with_chances_as_the_weights():
    n = 60_000
    x, personal, social = np.full(n, 0.1), np.full(n, 0.3), np.full(n, 0.5)
    weights = Weights(1.0, 2.0, 5.0)
    labels = copied_labels(
        x, personal, social, np.full(n, 5), weights, 0.0, np.random.default_rng(0).random((3, n))
    )
    shares = [np.mean(labels == value) for value in (0.1, 0.3, 0.5)]
    np.testing.assert_allclose(shares, [1 / 8, 2 / 8, 5 / 8], atol=0.01)


def test_a_jump_draws_every_label_alike():
    n = 40_000
    same = np.full(n, 0.125)
    labels = copied_labels(
        same,
        same,
        same,
        np.full(n, 4),
        Weights(1, 1, 1),
        1.0,
        np.random.default_rng(0).random((3, n)),
    )
    centres, counts = np.unique(labels, return_counts=True)
    np.testing.assert_array_equal(centres, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(counts / n, 0.25, atol=0.01)


@pytest.mark.parametrize(
    ("outside", "inside"),
    [(-0.25, 0.25), (1.25, 0.75), (0.4, 0.4), (0.0, 0.0), (1.0, 1.0), (2.25, 0.25), (-1.25, 0.75)],
)
def test_a_position_outside_is_mirrored_at_the_faces(outside, inside):
    assert reflect(np.array([outside]))[0] == pytest.approx(inside, abs=1e-15)


def test_reflection_never_lengthens_a_move():
    rng = np.random.default_rng(0)
    x, step = rng.random(10_000), rng.normal(size=10_000)
    assert np.all(np.abs(reflect(x + step) - x) <= np.abs(step) + 1e-15)


def test_a_velocity_is_clipped_at_its_limit_and_no_further():
    np.testing.assert_array_equal(
        limit(np.array([-0.9, -0.2, 0.0, 0.7]), 0.5), [-0.5, -0.2, 0.0, 0.5]
    )
